/* Batches of lines as their users, and their users' broken scripts, write them. */
#include "run_moeref.h"
#include "temporary.h"

#include <jansson.h>
#include <unistd.h>

#define LINE "T=64 d=64 n=64 E=4 K=2"

static char path[TEMPORARY_BYTES];

static outcome *batch(const char *options) {
    return moeref("predict --batch %s %s", path, options);
}

/* A batch of these bytes ends with this exit code, `lines` lines and a sentence. */
static void expect_batch(const char *bytes, size_t size, int code, int lines, const char *piece) {
    temporary_file(path, "", bytes, size);
    outcome *o = batch("--output json");
    int seen = 0;
    for (const char *at = o->text; (at = strstr(at, "{\"moeref\":2,")); at++)
        seen++;
    cr_expect_eq(o->code, code, "exit %d, want %d: %.500s", o->code, code, o->text);
    cr_expect_eq(seen, lines, "%d lines, want %d: %.500s", seen, lines, o->text);
    cr_expect(strstr(o->text, piece), "no '%s' in: %.500s", piece, o->text);
    cr_expect_lt(strlen(o->text), 3000 * (size_t)(lines + 1),
                 "a message repeats what it was given");
    free(o);
    unlink(path);
}

#define EXPECT(text, code, lines, piece) expect_batch(text, sizeof text - 1, code, lines, piece)

Test(batch, line_ends_and_what_is_skipped) {
    EXPECT(LINE, 0, 1, "\"case\":\"" LINE "\"");
    EXPECT(LINE "\r\n" LINE " seed=2\r\n", 0, 2, "\"case\":\"" LINE "\"");
    EXPECT("\n \t\r\n# T=1\n  # T=1\nmoe " LINE "\n\n", 0, 1, "\"case\":\"moe " LINE "\"");
    EXPECT("gemm\tm=8  n=8 k=8", 0, 1, "cublas");
}

/* Its error is a record in its place, and the others are answered. */
Test(batch, a_bad_line_is_named_and_does_not_stop_the_rest) {
    EXPECT(LINE "\n" LINE " foo=1\n" LINE "\n", 1, 3, ": line 2: ");
    EXPECT(LINE "\n" LINE " foo=1\n" LINE "\n", 1, 3, "foo=1\",\"gpu\":\"h100-sxm\"");
    EXPECT(LINE "\n" LINE " K=3\n", 1, 2, "\"error\":\"K is given twice");
    EXPECT("gemm m=8 n=8 k=8 m=9\n", 1, 1, "m is given twice");
    EXPECT("gemm m=8 n=8\n", 1, 1, "k= are all needed");
    EXPECT("gemm m=8 n=8 k=99999999999999999999\n", 1, 1, "2^31");
    EXPECT("gemm m=8 n=8 k=0x8\n", 1, 1, "is not a size");
    EXPECT(LINE "\n" LINE "\0 seed=1\n", 1, 2, "NUL byte stands in column 23");
    EXPECT("\0\n" LINE "\n", 1, 2, "line 1: ");
    EXPECT("T=64\rd=64 n=64 E=4 K=2\n", 1, 1, "byte 0x0d");
    EXPECT("\xef\xbb\xbf" LINE "\n", 1, 1, "column 1 holds byte 0xef");
    EXPECT("T=64 \x1b[2J\n", 1, 1, "byte 0x1b");
    EXPECT(LINE " dtype=fp32\n", 1, 1, "line 1: ");
}

/* The record of an error in the other formats. */
Test(batch, errors_have_a_place_in_text_and_csv) {
    temporary_file(path, "", "T=1\n" LINE "\n", sizeof LINE + 4);
    outcome *o = batch("--output csv 2>&1 >/dev/null | wc -l #");
    cr_expect_eq(atoi(o->text), 1, "%s", o->text);
    free(o);
    o = batch("--output csv 2>/dev/null #");
    cr_expect_eq(o->code, 1);
    cr_expect(strstr(o->text, "\"T=1\",h100-sxm,moeref,error,"), "%s", o->text);
    cr_expect(strstr(o->text, LINE "\",h100-sxm,moeref,fwd,A,"), "%s", o->text);
    free(o);
    o = batch("2>/dev/null #");
    cr_expect(strstr(o->text, "T=1\nmoeref on h100-sxm: not predicted: "), "%s", o->text);
    free(o);
    unlink(path);
}

Test(batch, nothing_in_it) {
    EXPECT("", 2, 0, "no case in it");
    EXPECT("# only\n\n", 2, 0, "no case in it");
    expect(2, "standard input: no case in it", "predict --batch - </dev/null");
    expect(3, "directory", "predict --batch .");
    expect(3, "no/such/batch", "predict --batch no/such/batch");
}

Test(batch, very_long_lines) {
    const size_t size = 1 << 20;
    char *text = malloc(size + 64);
    memset(text, 'x', size);
    expect_batch(text, size, 1, 1, "line 1: ");
    memset(text, ' ', size);
    expect_batch(text, size, 2, 0, "no case in it");
    memcpy(text, LINE, sizeof LINE - 1);
    strcpy(text + size, "seed=5\n");
    temporary_file(path, "", text, size + 7);
    outcome *o = batch("--output json");
    cr_expect_eq(o->code, 0);
    cr_expect(strstr(o->text, "seed=5\",\"gpu\""));
    free(o);
    unlink(path);
    free(text);
}

/* More lines than a chunk holds: in order, each valid, and as `predict --case` prints it. */
Test(batch, many_lines_keep_their_order) {
    enum { LINES = 1500 };
    char *text, *line, *rest;
    size_t size;
    FILE *to = open_memstream(&text, &size);
    for (int i = 1; i <= LINES; i++)
        fprintf(to, "T=%d d=64 n=64 E=4 K=2\n", i);
    fprintf(to, "T=x\nT=1 d=64 n=64 E=4 K=2\n");
    fclose(to);
    temporary_file(path, "", text, size);
    outcome *o = batch("--output json 2>/dev/null #");
    cr_expect_eq(o->code, 1);
    rest = o->text;
    for (int i = 1; i <= LINES; i++) {
        char want[64];
        snprintf(want, sizeof want, "T=%d d=64 n=64 E=4 K=2", i);
        line = strsep(&rest, "\n");
        json_t *root = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
        cr_assert(root, "line %d: %s", i, line);
        cr_expect_str_eq(json_string_value(json_object_get(root, "case")), want);
        json_decref(root);
    }
    cr_expect(strncmp(rest, "{\"moeref\":2,\"case\":\"T=x\"", 24) == 0, "%.80s", rest);
    outcome *one = moeref("predict --output json --case 'T=%d d=64 n=64 E=4 K=2'", LINES);
    cr_expect_eq(strncmp(one->text, line, strlen(line)), 0, "%s\n%s", one->text, line);
    free(one);
    free(o);
    o = batch("2>&1 >/dev/null #");
    cr_expect(strstr(o->text, "line 1501: "), "%s", o->text);
    free(o);
    unlink(path);
    free(text);
}

/* What a line says stands beside its own output, also where it goes on. */
Test(batch, messages_keep_their_order) {
    temporary_file(path, "", LINE "\n" LINE " seed=2\n", 2 * sizeof LINE + 7);
    outcome *o = batch("--method all --output json 2>&1 >/dev/null #");
    int refused = 0;
    for (const char *at = o->text; (at = strstr(at, "no backward pass")); at++)
        refused++;
    cr_expect_eq(o->code, 1);
    cr_expect_eq(refused, 2 * 3, "%s", o->text);
    free(o);
    unlink(path);
}

Test(batch, a_full_disk_is_said_once) {
    static const char *const options[] = {"--output json", "--output csv", "--output text"};
    temporary_file(path, "", LINE "\n", sizeof LINE);
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        outcome *o = moeref("predict --batch - %s <%s 3>&1 >/dev/full 2>&3 #", options[i], path);
        const char *said = strstr(o->text, "could not be written");
        cr_expect(o->code == 3 && said && !strstr(said + 1, "could not be written"), "%d: %s",
                  o->code, o->text);
        free(o);
    }
    unlink(path);
}

/* Cases of `check` are read as a batch's lines are. */
Test(batch, cases_to_check_are_such_lines) {
    static const char text[] = "#\n \r\n  T=8 d=8 n=8 E=2 K=1\r\n",
                      cut[] = "T=8 d=8 n=8 E=2 K=1\0 x=1\n";
    temporary_file(path, "", text, sizeof text - 1);
    outcome *o = moeref("check --backend reference --cases - <%s", path);
    cr_expect(o->code == 0 && strstr(o->text, "1 passed, 0 failed"), "%d: %s", o->code, o->text);
    free(o);
    unlink(path);
    temporary_file(path, "", cut, sizeof cut - 1);
    o = moeref("check --backend reference --cases %s", path);
    cr_expect(o->code == 2 && strstr(o->text, "NUL byte stands in column 20"), "%s", o->text);
    cr_expect(strstr(o->text, "line 1 is not a case"), "%s", o->text);
    free(o);
    unlink(path);
    expect(3, "directory", "check --backend reference --cases .");
}
