/* What the bench of level `unikernel` runs: bare, under bubblewrap, and in a VM. Static. */
#include <arpa/inet.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

/* Answers each connection: `echo` sends back what comes, `sink` one byte when all has come. */
static int serve(int port, int sink) {
    static char buffer[1 << 16];
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    int one = 1, l = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(l, (void *)&to, sizeof to) || listen(l, 16)) return 3;
    if (write(1, "r", 1) != 1) return 4;
    for (;;) {
        int c = accept(l, 0, 0);
        for (ssize_t n; (n = read(c, buffer, sizeof buffer)) > 0;)
            if (!sink && write(c, buffer, n) != n) break;
        if (sink && write(c, "x", 1) != 1) return 5;
        close(c);
    }
}

int main(int count, char **words) {
    const char *what = count > 1 ? words[1] : "";
    if (!strcmp(what, "echo") || !strcmp(what, "sink")) return serve(7000, *what == 's');
    if (!strcmp(what, "stay")) {
        if (write(1, "x", 1) != 1) return 1;
        pause();
    }
    if (!strcmp(what, "cpu")) {
        volatile double sum = 0;
        double began = now();
        for (int n = 1; n < 30000000; n++) sum += sqrt(n);
        printf("%f\n", now() - began);
        return 0;
    }
    if (!strcmp(what, "null")) {
        double began = now();
        for (int n = 0; n < 300000; n++) syscall(SYS_getppid);
        printf("%f\n", now() - began);
        return 0;
    }
    return write(1, "x", 1) != 1;
}
