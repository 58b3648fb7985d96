/* Whole files in, whole files out. A file is written beside its final name and renamed when it is
 * complete, so that a full disk or a crash leaves the old file or none, never half of one. */
#ifndef MOE_CORE_FILE_H
#define MOE_CORE_FILE_H

#include "moeref/status.h"

#include <stddef.h>

/* The bytes of a file, mapped read-only. An empty file has data == NULL and size 0. */
typedef struct moe_int_map {
    const void *data;
    size_t size;
} moe_int_map;

/* MOE_E_IO: PATH cannot be opened or is not a regular file; MOE_E_NOMEM: no address space. */
moe_status moe_int_file_map(const char *path, const moe_log *log, moe_int_map *ret);
void moe_int_file_unmap(moe_int_map *map);
/* What was read of it leaves this process's memory; reading on brings it back. */
void moe_int_file_forget(const moe_int_map *map);

/* Reads a text file of at most `limit` bytes. *ret_text ends with a NUL that *ret_size does not
 * count; the caller frees it. MOE_E_IO, MOE_E_FORMAT (longer than limit), MOE_E_NOMEM. */
moe_status moe_int_file_read(const char *path, size_t limit, const moe_log *log, char **ret_text,
                             size_t *ret_size);

/* A file that is being written beside its final name.
 * Thread-safety: one thread at a time. */
typedef struct moe_int_writer moe_int_writer;

/* Starts writing PATH. A symbolic link is followed; a device or a pipe is written directly. The
 * log must outlive the writer. MOE_E_IO, MOE_E_NOMEM. */
moe_status moe_int_writer_open(const char *path, const moe_log *log, moe_int_writer **ret);

/* Appends. After an error only moe_int_writer_discard is useful. MOE_E_IO. */
moe_status moe_int_writer_put(moe_int_writer *writer, const void *data, size_t size);

/* Makes the bytes durable, gives the file its name and destroys the writer, also on failure, in
 * which case nothing is left behind. MOE_E_IO. */
moe_status moe_int_writer_commit(moe_int_writer **writer);

/* Removes what was written and destroys the writer; NULL is allowed. */
void moe_int_writer_discard(moe_int_writer **writer);

/* All of the above in one call. */
moe_status moe_int_file_write(const char *path, const void *data, size_t size, const moe_log *log);

/* A folder that is there, or that is made in one that is. MOE_E_IO. */
moe_status moe_int_folder_make(const char *path, const moe_log *log);

#endif
