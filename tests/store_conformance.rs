//! What a store must do, as a table of what is asked of the engine elsewhere: there on
//! SQLite, here on PostgreSQL.

use crate::measured::lanes;
use crate::support::store::on_postgres;
use crate::{
    fidelity, health, ingest, isolation, log, order, plan, retry, search, shutdown, steer,
};

macro_rules! the_same_on_postgres {
    ($($module:ident: $($behaviour:ident)+;)+) => {
        $($(
            #[test]
            fn $behaviour() {
                on_postgres($module::$behaviour);
            }
        )+)+
    };
}

the_same_on_postgres! {
    ingest:
        an_event_comes_in_by_a_source_without_a_plugin
        a_batch_of_cloud_events_comes_in_as_a_whole
        the_same_idempotency_key_is_the_same_event_and_delivered_once
        an_idempotency_key_outlives_a_crash
        a_hundred_posts_at_once_with_one_key_make_one_event
        what_a_platform_fires_twice_is_taken_once_per_source;
    fidelity:
        without_a_transform_any_bytes_are_delivered_as_they_came
        the_content_type_is_delivered_as_it_came
        what_was_sent_is_in_the_log_as_it_was_sent;
    retry:
        a_failing_endpoint_is_tried_by_its_schedule_and_then_it_is_a_dead_letter
        an_endpoint_that_recovers_gets_what_failed_before
        an_endpoint_that_is_gone_ends_it_at_once
        a_receiver_cannot_park_a_delivery_for_years
        every_attempt_is_made_from_the_event_anew;
    order:
        an_event_that_is_tried_again_holds_back_its_own_subject_only
        an_endpoint_in_order_gets_one_at_a_time
        a_dead_letter_makes_way_for_the_next
        order_outlives_the_process
        one_that_is_cancelled_makes_way_for_the_next
        a_resend_waits_its_turn_as_well;
    lanes:
        a_backlog_outlives_the_process
        no_second_has_more_attempts_than_the_rate_limit;
    health:
        an_endpoint_that_is_gone_is_called_no_more_until_it_is_another
        the_engine_tells_what_becomes_of_endpoints_to_the_routes_that_ask
        a_plugin_that_breaks_again_and_again_is_rested_and_heals_when_it_is_repaired
        a_disabled_endpoint_takes_nothing_from_the_others
        a_person_switches_an_endpoint_off_and_on_and_tries_it;
    log:
        the_list_is_filtered_by_each_of_its_parameters
        a_row_says_what_became_of_a_delivery
        pages_follow_each_other_while_the_log_grows
        what_cannot_be_asked_is_a_problem_that_says_why
        a_resend_is_a_new_delivery_of_the_same_event
        a_resend_as_new_gives_the_event_a_new_id
        an_engine_says_that_it_is_well_and_what_it_has_done;
    isolation:
        a_tenants_log_is_what_of_the_whole_log_is_its_own
        a_recovery_resends_the_callers_events_and_is_the_callers_own;
    search:
        what_blocks_find_is_what_a_look_at_every_row_finds
        what_is_long_in_hand_is_found_and_is_not_lost_by_a_crash
        what_is_old_is_pruned_payloads_first_and_what_waits_never;
    steer:
        a_delivery_that_waits_is_cancelled_and_one_that_does_not_is_not
        a_recovery_sends_each_delivery_of_its_range_again_and_none_twice
        a_recovery_is_cancelled_or_refused
        figures_say_how_endpoints_do;
    plan:
        a_folder_that_was_not_changed_changes_nothing
        another_url_plugin_or_filter_is_a_difference_and_another_limit_is_none;
    shutdown:
        a_stop_waits_for_the_attempt_under_way
        a_stop_does_not_wait_longer_than_its_timeout;
}
