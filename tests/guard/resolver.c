/* The system's resolver for a test: names under .test have the answers below,
   turning.test another one each time. Every lookup is told on stderr. Loaded in
   front of the real one by LD_PRELOAD, so that the engine is the real binary. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

typedef int lookup(const char *, const char *, const struct addrinfo *, struct addrinfo **);

static atomic_int turns;

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                struct addrinfo **found) {
    lookup *real = (lookup *)dlsym(RTLD_NEXT, "getaddrinfo");
    const char *answers[2] = {name, NULL};
    if (name != NULL && strcmp(name, "turning.test") == 0) {
        answers[0] = turns++ % 2 == 0 ? "127.0.0.1" : "127.0.0.2";
    } else if (name != NULL && strcmp(name, "mixed.test") == 0) {
        answers[0] = "127.0.0.1";
        answers[1] = "127.0.0.2";
    } else if (name != NULL && strcmp(name, "silent.test") == 0) {
        answers[0] = "127.0.0.3";
        answers[1] = "127.0.0.1";
    } else if (name != NULL && strcmp(name, "mapped.test") == 0) {
        answers[0] = "::ffff:127.0.0.2";
    } else if (name != NULL && strcmp(name, "metadata.test") == 0) {
        answers[0] = "169.254.169.254";
    }
    if (answers[0] != name) {
        fprintf(stderr, "looked up %s\n", name);
    }
    int error = real(answers[0], service, hints, found);
    if (error == 0 && answers[1] != NULL) {
        struct addrinfo *last = *found;
        while (last->ai_next != NULL) {
            last = last->ai_next;
        }
        error = real(answers[1], service, hints, &last->ai_next);
    }
    return error;
}
