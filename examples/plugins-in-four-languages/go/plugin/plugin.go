// Package plugin receives and sends a platform's webhooks: JSON, signed with
// HMAC-SHA256 in a header.
package plugin

import (
	"encoding/hex"
	"encoding/json"
	"strings"

	events "parcels/bindings/imports/plugpost_plugin_events"
	logging "parcels/bindings/imports/plugpost_plugin_logging"
	host "parcels/bindings/imports/plugpost_plugin_plugin"
	requests "parcels/bindings/imports/plugpost_plugin_requests"
	secrets "parcels/bindings/imports/plugpost_plugin_secrets"
	source "parcels/bindings/imports/plugpost_plugin_source"
	transform "parcels/bindings/imports/plugpost_plugin_transform"
	types "parcels/bindings/imports/plugpost_plugin_types"
	wit "parcels/bindings/wit/types"
)

const signature = "x-parcels-signature"

const settingsSchema = `{
  "type": "object",
  "properties": {
    "tracking_url": {
      "description": "where a parcel is followed; its id is added",
      "type": "string"
    }
  },
  "additionalProperties": false
}`

var settings struct {
	TrackingURL *string `json:"tracking_url"`
}

var body = []secrets.Part{secrets.MakePartBody()}

// Describe says who this is.
func Describe() host.Description {
	return host.Description{
		Name:           "parcels",
		Version:        "0.1.0",
		Summary:        "receives and sends a platform's webhooks",
		SettingsSchema: settingsSchema,
		Secrets: []host.SecretNeed{
			{Name: "key", Encoding: "text", Required: true, Summary: "signs every request"},
		},
		EventTypes: []string{"parcel.*"},
		Policy: []wit.Tuple2[string, string]{
			{F0: "endpoint.https_only", F1: "true"},
			{F0: "retry.schedule", F1: "1m, 10m, 1h"},
		},
	}
}

// Configure takes settings that fit the schema.
func Configure(text string) []types.Problem {
	if err := json.Unmarshal([]byte(text), &settings); err != nil {
		return []types.Problem{{Message: err.Error()}}
	}
	if url := settings.TrackingURL; url != nil && !strings.HasPrefix(*url, "https://") {
		return []types.Problem{{Pointer: "/tracking_url", Message: "is not an https:// URL"}}
	}
	return nil
}

// Receive turns a request into events.
func Receive(request *requests.Inbound) ([]source.Received, *source.Rejection) {
	// What is not hexadecimal is empty: no signature fits then.
	given, _ := hex.DecodeString(request.Header(signature).SomeOr(""))
	fits := secrets.Verify("key", "sha256", body, given)
	if fits.IsErr() {
		logging.Log("error", fits.Err())
		return nil, &source.Rejection{Status: 500, Message: "this source is not set up; its log says why"}
	}
	if !fits.Ok() {
		return nil, &source.Rejection{Status: 401, Message: "no signature fits"}
	}
	eventType := request.Text("/event")
	if eventType.IsNone() {
		return nil, &source.Rejection{Status: 400, Message: "the body has no event"}
	}
	return []source.Received{{
		Type:         eventType.Some(),
		Subject:      request.Text("/parcel/id"),
		Time:         wit.None[uint64](),
		DuplicateKey: wit.None[string](),
		Data:         types.MakeBodyUnchanged(),
	}}, nil
}

// Apply shapes an event.
func Apply(event *events.Event) (*transform.Message, *types.Failure) {
	parcel := event.Field("/parcel")
	if parcel.IsNone() {
		return nil, &types.Failure{Code: "no-parcel", Message: "the data has no parcel"}
	}
	// The parcel's own text: digits and order of keys stay as they came.
	text := `{"event":` + asJSON(event.Type()) + `,"parcel":` + parcel.Some()
	if id := event.Subject(); settings.TrackingURL != nil && id.IsSome() {
		text += `,"tracking":` + asJSON(*settings.TrackingURL+"/"+id.Some())
	}
	return &transform.Message{
		Method:  "POST",
		Headers: []types.Header{header("content-type", "application/json")},
		Body:    types.MakeBodyBytes([]byte(text + "}")),
	}, nil
}

// Sign adds what proves who sends.
func Sign(request *requests.Outgoing) ([]types.Header, *types.Failure) {
	codes := secrets.Hmac("key", "sha256", body)
	if codes.IsErr() {
		return nil, &types.Failure{Retry: true, Code: "key", Message: codes.Err()}
	}
	if len(codes.Ok()) == 0 {
		return nil, &types.Failure{Retry: true, Code: "key", Message: "no key can sign"}
	}
	return []types.Header{header(signature, hex.EncodeToString(codes.Ok()[0]))}, nil
}

func header(name, text string) types.Header {
	return types.Header{Name: name, Value: types.MakeHeaderValueText(text)}
}

func asJSON(text string) string {
	var out strings.Builder
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(text)
	return strings.TrimSuffix(out.String(), "\n")
}
