/* MOE_DATA_FROM_LIBRARY, the way from the library's folder to share/moeref, comes from meson.build.
 */
#define _GNU_SOURCE /* dladdr */
#include "moeref/home.h"

#include <dlfcn.h>
#include <libgen.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Relative to the library's folder: installed (code under LIB, data under DATA), and built. A
 * package that keeps all in one folder has its data under LIB. */
#define LIB  "moeref/"
#define DATA MOE_DATA_FROM_LIBRARY "/"
enum { PLACES = 3 };

static const struct part {
    const char *what, *environment, *place[PLACES];
} parts[] = {
    [MOE_HOME_BACKENDS] = {"the folder of backends", NULL, {"moeref", "../backends"}},
    [MOE_HOME_WORKER] = {"the program moeref-worker, in which backends run,",
                         "MOEREF_WORKER",
                         {LIB "moeref-worker", "moeref-worker"}},
    [MOE_HOME_FAULTY] = {"the faulty backend",
                         NULL,
                         {LIB "faulty.so", "../backends/faulty/faulty.so"}},
    [MOE_HOME_GOLDEN] = {"the folder of golden files",
                         "MOEREF_GOLDEN",
                         {DATA "golden", LIB "golden", "../../golden"}},
    [MOE_HOME_GPUS] = {"the folder of GPU descriptions",
                       NULL,
                       {DATA "gpus", LIB "gpus", "../../sim/gpus"}},
    [MOE_HOME_SCHEMA] = {"the schema of reports",
                         NULL,
                         {DATA "moeref.schema.json", LIB "moeref.schema.json",
                          "../../src/cli/report/moeref.schema.json"}},
    [MOE_HOME_MEASURE] = {"the program moeref-measure, which a build with -Dcuda=enabled has,",
                          "MOEREF_MEASURE",
                          {LIB "moeref-measure", "../backends/cuda/moeref-measure"}},
};

/* The folder of the file that this library is in; false where it is not told. Of the file itself,
 * not of a link to it: packagers that keep every package in its own folder and link its library
 * into a common one (stow, alternatives, Nix profiles) leave what belongs to it where the file is.
 */
static bool library_folder(char *ret) {
    Dl_info self;
    char file[PATH_MAX];
    if (!dladdr((void *)moe_home_find, &self) || !self.dli_fname || !realpath(self.dli_fname, file))
        return false;
    snprintf(ret, PATH_MAX, "%s", dirname(file));
    return true;
}

/* Where it exists, its absolute path. An absolute `relative` is one already. */
static bool exists(const char *folder, const char *relative, char *ret) {
    char path[PATH_MAX];
    const int length = relative[0] == '/' ? snprintf(path, sizeof path, "%s", relative)
                                          : snprintf(path, sizeof path, "%s/%s", folder, relative);
    return length < (int)sizeof path && realpath(path, ret);
}

static moe_status give(const char *path, const moe_log *log, char *ret, size_t size) {
    if (strlen(path) >= size)
        return moe_fail(log, MOE_E_INVALID, "%s: longer than the %zu bytes that it goes to", path,
                        size);
    strcpy(ret, path);
    return MOE_OK;
}

moe_status moe_home_find(moe_home_part part, const char *named, const moe_log *log, char *ret,
                         size_t size) {
    char folder[PATH_MAX], path[PATH_MAX];
    if ((unsigned)part >= sizeof parts / sizeof *parts)
        return moe_fail(log, MOE_E_INVALID, "%d is no part of an installation", (int)part);
    const struct part *p = &parts[part];
    const char *chosen = named ? named : p->environment ? getenv(p->environment) : NULL;
    if (chosen && realpath(chosen, path))
        return give(path, log, ret, size);
    if (chosen)
        return moe_fail(log, MOE_E_NOTFOUND, "%s is not at '%s'%s%s", p->what, chosen,
                        named ? "" : ", which is in $", named ? "" : p->environment);
    if (!library_folder(folder))
        return moe_fail(log, MOE_E_NOTFOUND, "%s: the library cannot tell where it is", p->what);
    for (int i = 0; i < PLACES && p->place[i]; i++)
        if (exists(folder, p->place[i], path))
            return give(path, log, ret, size);
    return moe_fail(log, MOE_E_NOTFOUND,
                    "%s is not where the library is: neither %s/%s nor %s/%s%s%s", p->what, folder,
                    p->place[0], folder, p->place[1], p->environment ? "; name it in $" : "",
                    p->environment ? p->environment : "");
}
