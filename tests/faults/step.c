/* Steps the wall clock of one process, as if somebody had set its host's: preloaded into a worker.

   No namespace covers CLOCK_REALTIME, and the machine is shared. So the process's readings of it and the
   kernel's receive stamps, which on one host are the same clock, are shifted together by the seconds that
   stand in the file STEP_FILE (a signed 64-bit integer), from the moment they stand there. Not tested this
   way: packets that were stamped before the step and are read after it, and a clock that is slewed. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *step_s;

__attribute__((constructor)) static void map_step(void) {
    const char *path = getenv("STEP_FILE");
    int file = path ? open(path, O_RDONLY) : -1;
    if (file < 0) return;
    void *mapped = mmap(NULL, sizeof *step_s, PROT_READ, MAP_SHARED, file, 0);
    if (mapped != MAP_FAILED) step_s = mapped;
    close(file);
}

static int64_t step(void) { return step_s ? *step_s : 0; }

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*next)(clockid_t, struct timespec *);
    if (!next) next = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int failed = next(clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += step();
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    static int (*next)(struct timeval *, void *);
    if (!next) next = (int (*)(struct timeval *, void *))dlsym(RTLD_NEXT, "gettimeofday");
    int failed = next(now, zone);
    if (!failed) now->tv_sec += step();
    return failed;
}

time_t time(time_t *now) {
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    if (now) *now = at.tv_sec;
    return at.tv_sec;
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags) {
    static ssize_t (*next)(int, struct msghdr *, int);
    if (!next) next = (ssize_t(*)(int, struct msghdr *, int))dlsym(RTLD_NEXT, "recvmsg");
    ssize_t count = next(fd, message, flags);
    if (count < 0) return count;
    for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part; part = CMSG_NXTHDR(message, part))
        if (part->cmsg_level == SOL_SOCKET && part->cmsg_type == SCM_TIMESTAMPNS)
            ((struct timespec *)CMSG_DATA(part))->tv_sec += step();
    return count;
}
