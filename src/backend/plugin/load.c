/* One plug-in file: opened, its ABI number compared before anything else is read, its table
 * checked, probed. */
#define _GNU_SOURCE
#include "backend/plugin/load.h"
#include "core/utf8.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fenv.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Every file's name is moeref-NAME.so. */
static const char prefix[] = "moeref-";

static void set_reason(moe_int_entry *entry, moe_status status, const char *format, ...)
    MOE_PRINTF(3, 4);

static void set_reason(moe_int_entry *entry, moe_status status, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(entry->reason, sizeof entry->reason, format, args);
    va_end(args);
    entry->status = status;
}

/* "dir/moeref-NAME.so" -> "NAME"; the caller frees. */
static char *name_from_path(const char *path) {
    const char *base = strrchr(path, '/');
    base = base ? base + 1 : path;
    if (strncmp(base, prefix, sizeof prefix - 1) == 0)
        base += sizeof prefix - 1;
    const char *dot = strrchr(base, '.');
    return strndup(base, dot && dot > base ? (size_t)(dot - base) : strlen(base));
}

/* dlopen's own sentence about a text file is cryptic, so the magic number is looked at first; only
 * of a regular file, since reading from a pipe may wait for ever. */
static bool is_elf(const char *path, moe_int_entry *entry) {
    int file = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (file < 0) {
        set_reason(entry, errno == ENOENT ? MOE_E_NOTFOUND : MOE_E_IO, "cannot be opened: %s",
                   strerror(errno));
        return false;
    }
    char magic[4] = {0};
    struct stat status;
    bool regular = fstat(file, &status) == 0 && S_ISREG(status.st_mode);
    ssize_t got = regular ? read(file, magic, sizeof magic) : 0;
    close(file);
    if (got == (ssize_t)sizeof magic && memcmp(magic, "\177ELF", sizeof magic) == 0)
        return true;
    set_reason(entry, MOE_E_FORMAT, "is not a shared object");
    return false;
}

/* The first required slot that is NULL, or NULL when all are there. */
static const char *missing_slot(const moe_plugin *p) {
    struct {
        const char *name;
        bool present;
    } slots[] = {
        {"brief", p->brief},       {"probe", p->probe},         {"open", p->open},
        {"close", p->close},       {"supports", p->supports},   {"prepare", p->prepare},
        {"release", p->release},   {"set_input", p->set_input}, {"forward", p->forward},
        {"backward", p->backward}, {"fetch", p->fetch},
    };
    for (size_t i = 0; i < sizeof slots / sizeof *slots; i++)
        if (!slots[i].present)
            return slots[i].name;
    return NULL;
}

static bool is_valid_name(const char *name) {
    return name && *name && name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_")] == '\0';
}

/* Leaves the plug-in in entry->plugin if its table can be used at all. */
static void accept(const moe_plugin *plugin, moe_int_entry *entry) {
    if (plugin->abi < MOE_PLUGIN_ABI_OLDEST || plugin->abi > MOE_PLUGIN_ABI) {
        set_reason(entry, MOE_E_ABI,
                   "was built for plug-in interface %u, this library has %u: rebuild it",
                   plugin->abi, MOE_PLUGIN_ABI);
        return;
    }
    if (!is_valid_name(plugin->name)) {
        set_reason(entry, MOE_E_FORMAT, "has no name of the form [a-z0-9_]+ in its table");
        return;
    }
    const char *slot = missing_slot(plugin);
    if (slot) {
        set_reason(entry, MOE_E_FORMAT, "lacks the required slot '%s' in its table", slot);
        return;
    }
    entry->plugin = plugin;
    entry->accepted = true;
    entry->priority = plugin->priority;
    snprintf(entry->brief, sizeof entry->brief, "%s", plugin->brief);
    moe_int_clean_text(entry->brief, sizeof entry->brief);
}

/* A status out of range is no yes. */
void moe_int_entry_probe(moe_int_entry *entry) {
    fenv_t environment;
    fegetenv(&environment);
    const moe_status status = entry->plugin->probe(entry->reason, sizeof entry->reason);
    fesetenv(&environment);
    moe_int_clean_text(entry->reason, sizeof entry->reason);
    entry->status = status;
    if (status > MOE_OK || status < MOE_E_DEVICE)
        set_reason(entry, MOE_E_CONTRACT, "probe returned %d, which is no status", (int)status);
    else if (status == MOE_OK)
        entry->reason[0] = '\0';
    else if (!entry->reason[0])
        set_reason(entry, status, "%s", moe_status_str(status));
}

static moe_status set_names(moe_int_entry *entry, char *name, const char *path) {
    entry->name = name;
    entry->path = strdup(path);
    if (entry->name && entry->path)
        return MOE_OK;
    moe_int_entry_destroy(entry);
    return MOE_E_NOMEM;
}

moe_status moe_int_entry_builtin(const moe_plugin *plugin, moe_int_entry *ret) {
    moe_int_entry entry = {0};
    accept(plugin, &entry);
    moe_int_entry_probe(&entry);
    moe_status status = set_names(&entry, strdup(plugin->name), "built in");
    if (!status)
        *ret = entry;
    return status;
}

/* A plug-in that was accepted is never unloaded: probe() may have started threads or a device
 * driver that hold addresses of its code. One that was refused ran nothing and is closed. */
static void open_object(const char *path, moe_int_entry *entry) {
    fenv_t environment; /* its constructors run now */
    fegetenv(&environment);
    void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    fesetenv(&environment);
    if (!object) {
        const char *why = dlerror();
        set_reason(entry, MOE_E_UNSUPPORTED, "cannot be loaded: %s", why ? why : "unknown reason");
        return;
    }
    const moe_plugin *plugin = dlsym(object, MOE_PLUGIN_SYMBOL);
    if (plugin)
        accept(plugin, entry);
    else
        set_reason(entry, MOE_E_FORMAT, "exports no '%s': not a moeref plug-in", MOE_PLUGIN_SYMBOL);
    if (!entry->plugin)
        dlclose(object);
}

moe_status moe_int_entry_open(const char *path, moe_int_entry *ret) {
    moe_int_entry entry = {0};
    if (is_elf(path, &entry))
        open_object(path, &entry);
    moe_status status =
        set_names(&entry, entry.plugin ? strdup(entry.plugin->name) : name_from_path(path), path);
    if (!status)
        *ret = entry;
    return status;
}

moe_status moe_int_entry_refused(const char *path, moe_status status, const char *reason,
                                 moe_int_entry *ret) {
    moe_int_entry entry = {0};
    set_reason(&entry, status, "%s", reason);
    moe_status made = set_names(&entry, name_from_path(path), path);
    if (!made)
        *ret = entry;
    return made;
}

void moe_int_entry_destroy(moe_int_entry *entry) {
    free(entry->name);
    free(entry->path);
    *entry = (moe_int_entry){0};
}
