/* A disk that can fail and lose its power, put in front of a program by LD_PRELOAD (tests/power.rs).
 *
 * DISK_ROOT    the folder that lies on the disk
 * DISK_SHADOW  what a cut of power would leave: files/INODE holds a file as it was when it was last synced, folders/INODE the names
 *              that were in a folder when the folder was last synced (a line "INODE KIND NAME" each, d for a folder). Whatever was only written is not there:
 *              POSIX promises no more, and neither does sync_file_range(2).
 * DISK_FAULTS  a file of lines "CALL PART ERRNO": each such call (fsync for fsync and fdatasync, rename) on a path that contains PART
 *              fails with ERRNO as long as the line is there.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int fault(const char *call, const char *path)
{
    const char *list = getenv("DISK_FAULTS");
    FILE *file = list ? fopen(list, "re") : NULL;
    char of[32], part[256];
    int error = 0, code;
    while (file && !error && fscanf(file, "%31s %255s %d", of, part, &code) == 3)
        if (!strcmp(of, call) && strstr(path, part))
            error = code;
    if (file)
        fclose(file);
    return error;
}

/* Each into a file of its own first: two threads may sync one file at once. */
static void keep(int fd, const char *path)
{
    static __thread char bytes[1 << 16];
    const char *root = getenv("DISK_ROOT"), *shadow = getenv("DISK_SHADOW");
    struct stat about;
    if (!root || !shadow || strncmp(path, root, strlen(root)) || fstat(fd, &about))
        return;
    int folder = S_ISDIR(about.st_mode);
    char to[4200], part[4300];
    snprintf(to, sizeof to, "%s/%s/%lu", shadow, folder ? "folders" : "files", (unsigned long)about.st_ino);
    snprintf(part, sizeof part, "%s.%d", to, (int)gettid());
    FILE *out = fopen(part, "we");
    if (!out)
        abort();
    if (folder) {
        DIR *names = opendir(path);
        struct dirent *entry;
        while (names && (entry = readdir(names)))
            if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
                fprintf(out, "%lu %c %s\n", (unsigned long)entry->d_ino, entry->d_type == DT_DIR ? 'd' : '-', entry->d_name);
        if (names)
            closedir(names);
    } else {
        ssize_t n;
        int in = open(path, O_RDONLY | O_CLOEXEC);
        while (in >= 0 && (n = read(in, bytes, sizeof bytes)) > 0)
            fwrite(bytes, 1, n, out);
        if (in >= 0)
            close(in);
    }
    fclose(out);
    int (*rename_)(const char *, const char *) = dlsym(RTLD_NEXT, "rename");
    if (rename_(part, to))
        abort();
}

static int sync_by(const char *name, int fd)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    path[n > 0 ? n : 0] = 0;
    int error = fault("fsync", path);
    if (error) {
        errno = error;
        return -1;
    }
    int (*real)(int) = dlsym(RTLD_NEXT, name);
    int done = real(fd);
    if (!done)
        keep(fd, path);
    return done;
}

int fsync(int fd)
{
    return sync_by("fsync", fd);
}

int fdatasync(int fd)
{
    return sync_by("fdatasync", fd);
}

int rename(const char *from, const char *to)
{
    int error = fault("rename", to);
    if (error) {
        errno = error;
        return -1;
    }
    int (*real)(const char *, const char *) = dlsym(RTLD_NEXT, "rename");
    return real(from, to);
}
