/* What the library says, and text on its way to Python. */
#include "cli/input/messages.h"
#include "moeref/version.h"
#include "python/binding/binding.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static locale_t plain;                  /* numbers as in C; 0 without memory */
static _Thread_local locale_t listened; /* what held before moe_py_listen */

static void make_plain(void) {
    plain = newlocale(LC_NUMERIC_MASK, "C", (locale_t)0);
}

locale_t moe_py_plain_numbers(void) {
    pthread_once(&once, make_plain);
    return uselocale(plain);
}

static void hear(void *user, moe_log_level level, const char *message) {
    moe_py_said *said = user;
    size_t used = strlen(said->text);
    if (level > MOE_LOG_WARN)
        return;
    snprintf(said->text + used, sizeof said->text - used, "%s: %s\n",
             level == MOE_LOG_ERROR ? "error" : "warning", message);
}

void moe_py_listen(moe_py_ear *ear, moe_py_said *said) {
    said->text[0] = '\0';
    *ear = (moe_py_ear){said, {hear, said}};
    cli_log_to(&ear->log);
    listened = moe_py_plain_numbers();
}

void moe_py_listen_end(void) {
    uselocale(listened);
    cli_log_to(NULL);
}

void moe_py_layout(int64_t ret[4]) {
    ret[0] = sizeof(moe_named_tensor);
    ret[1] = sizeof(moe_py_how);
    ret[2] = sizeof(moe_py_form);
    ret[3] = sizeof(moe_py_step);
}

void moe_py_free(char *text) {
    free(text);
}

const char *moe_py_version(void) {
    return moe_version();
}

bool moe_py_text_begin(moe_py_text *t) {
    *t = (moe_py_text){0};
    t->to = open_memstream(&t->text, &t->size);
    if (t->to)
        t->before = moe_py_plain_numbers();
    return t->to != NULL;
}

char *moe_py_text_end(moe_py_text *t) {
    bool complete = !ferror(t->to);
    complete = fclose(t->to) == 0 && complete;
    uselocale(t->before);
    if (!complete) {
        free(t->text);
        t->text = NULL;
    }
    return t->text;
}
