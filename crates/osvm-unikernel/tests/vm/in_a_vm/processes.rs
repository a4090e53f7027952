//! Processes: fork and its relatives, exec, wait, and signals between them.

use crate::{
    image::{in_image, put, root_of},
    support::{Program, c, run, run_with, static_c},
};

/// What all of these programs include.
const HEAD: &str = r#"
    #define _GNU_SOURCE
    #include <errno.h>
    #include <fcntl.h>
    #include <pthread.h>
    #include <signal.h>
    #include <spawn.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <string.h>
    #include <sys/mman.h>
    #include <sys/time.h>
    #include <sys/wait.h>
    #include <time.h>
    #include <unistd.h>
    extern char **environ;
    #define CHECK(x) do { if (!(x)) { fprintf(stderr, "line %d: %s: %s\n", __LINE__, #x, strerror(errno)); _exit(99); } } while (0)
    static int code_of(pid_t pid) { int s; CHECK(waitpid(pid, &s, 0) == pid); return WIFEXITED(s) ? WEXITSTATUS(s) : 1000 + WTERMSIG(s); }
"#;

fn program(source: &str) -> Program {
    static_c(&format!("{HEAD}{source}"))
}

/// Runs a program that checks by itself.
fn passes(source: &str) {
    let ran = run(&program(source));
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
}

#[test]
fn a_child_has_its_parents_memory_and_neither_sees_what_the_other_writes_later() {
    // More pages than are copied at once, so that some are shared until they are written.
    passes(
        r#"#define PAGES 2000
           int main() {
               unsigned char *m = mmap(0, PAGES * 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
               volatile int *shared = mmap(0, 4096, 3, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
               for (int i = 0; i < PAGES; i++) m[i * 4096] = i;
               pid_t child = fork();
               if (!child) {
                   for (int i = 0; i < PAGES; i++) CHECK(m[i * 4096] == (unsigned char)i);
                   for (int i = 0; i < PAGES; i += 2) m[i * 4096] = 200;
                   pid_t grandchild = fork();
                   if (!grandchild) {
                       for (int i = 0; i < PAGES; i++) CHECK(m[i * 4096] == (i % 2 ? (unsigned char)i : 200));
                       memset(m, 1, PAGES * 4096);
                       CHECK(mprotect(m, PAGES * 4096, PROT_READ) == 0 && mprotect(m, PAGES * 4096, 3) == 0);
                       m[0] = 3;
                       *shared = 7;
                       _exit(11);
                   }
                   CHECK(code_of(grandchild) == 11);
                   for (int i = 0; i < PAGES; i++) CHECK(m[i * 4096] == (i % 2 ? (unsigned char)i : 200));
                   _exit(12);
               }
               for (int i = 1; i < PAGES; i += 2) m[i * 4096] = 100;
               CHECK(code_of(child) == 12);
               for (int i = 0; i < PAGES; i++) CHECK(m[i * 4096] == (i % 2 ? 100 : (unsigned char)i));
               CHECK(*shared == 7);
               return 0;
           }"#,
    );
}

#[test]
fn a_page_that_was_shared_with_a_child_is_not_written_through_new_rights() {
    passes(
        r#"#define PAGES 1000
           int main() {
               unsigned char *m = mmap(0, PAGES * 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
               for (int i = 0; i < PAGES; i++) m[i * 4096] = 1;
               int go[2];
               CHECK(pipe(go) == 0);
               pid_t child = fork();
               if (!child) {
                   char byte;
                   CHECK(read(go[0], &byte, 1) == 1);
                   for (int i = 0; i < PAGES; i++) CHECK(m[i * 4096] == 1);
                   _exit(0);
               }
               CHECK(mprotect(m, PAGES * 4096, PROT_READ) == 0);
               CHECK(mprotect(m, PAGES * 4096, PROT_READ | PROT_WRITE) == 0);
               for (int i = 0; i < PAGES; i++) m[i * 4096] = 2;
               CHECK(write(go[1], "x", 1) == 1);
               CHECK(code_of(child) == 0);
               return 0;
           }"#,
    );
}

#[test]
fn a_parent_is_told_how_each_child_ended() {
    passes(
        r#"static volatile int told;
           static void on_child(int s) { told++; }
           int main() {
               CHECK(wait(0) == -1 && errno == ECHILD);
               CHECK(getpid() == 1 && getppid() == 0);
               struct sigaction act = { .sa_handler = on_child, .sa_flags = SA_RESTART };
               CHECK(sigaction(SIGCHLD, &act, 0) == 0);
               pid_t a = fork();
               if (!a) { CHECK(getppid() == 1 && getpid() != 1); _exit(7); }
               CHECK(code_of(a) == 7 && told == 1);
               pid_t b = fork();
               if (!b) { for (;;) pause(); }
               int s;
               CHECK(waitpid(b, &s, WNOHANG) == 0);
               CHECK(kill(b, 0) == 0 && kill(b, SIGTERM) == 0);
               CHECK(code_of(b) == 1000 + SIGTERM && told == 2);
               CHECK(kill(b, 0) == -1 && errno == ESRCH);
               pid_t c = fork();
               if (!c) { signal(SIGTERM, SIG_IGN); raise(SIGTERM); kill(getpid(), SIGKILL); _exit(0); }
               siginfo_t info = {0};
               CHECK(waitid(P_PID, c, &info, WEXITED | WNOWAIT) == 0);
               CHECK(info.si_pid == c && info.si_code == CLD_KILLED && info.si_status == SIGKILL && info.si_signo == SIGCHLD);
               CHECK(code_of(c) == 1000 + SIGKILL);
               // A child that nobody asks about, where that was said.
               signal(SIGCHLD, SIG_IGN);
               pid_t d = fork();
               if (!d) _exit(0);
               CHECK(wait(0) == -1 && errno == ECHILD);
               return 0;
           }"#,
    );
}

#[test]
fn a_child_that_faults_ends_alone_and_its_parent_is_told() {
    let ran = run(&program(
        r#"int main() {
               pid_t a = fork();
               if (!a) { *(volatile int *)0 = 1; _exit(0); }
               CHECK(code_of(a) == 1000 + SIGSEGV);
               pid_t b = fork();
               if (!b) abort();
               CHECK(code_of(b) == 1000 + SIGABRT);
               puts("alive");
               return 0;
           }"#,
    ));
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "alive\n"), "{}", ran.err);
    assert!(ran.err.contains("died of a page fault writing 0x0") && ran.err.contains("of process 2"), "{}", ran.err);
}

#[test]
fn pipes_between_processes_end_with_their_last_writer_and_break_with_their_last_reader() {
    passes(
        r#"int main() {
               int p[2];
               CHECK(pipe(p) == 0);
               pid_t children[4];
               for (int n = 0; n < 4; n++) {
                   children[n] = fork();
                   if (!children[n]) {
                       close(p[0]);
                       char block[1000];
                       memset(block, 'a' + n, sizeof block);
                       for (int i = 0; i < 500; i++) CHECK(write(p[1], block, sizeof block) == sizeof block);
                       _exit(0);
                   }
               }
               close(p[1]);
               static char all[3000];
               long counts[4] = {0}, got;
               while ((got = read(p[0], all, sizeof all)) > 0) for (int i = 0; i < got; i++) counts[all[i] - 'a']++;
               for (int n = 0; n < 4; n++) CHECK(counts[n] == 500000 && code_of(children[n]) == 0);
               CHECK(pipe(p) == 0);
               pid_t writer = fork();
               if (!writer) { close(p[0]); sleep(0); for (;;) CHECK(write(p[1], "x", 1) == 1); }
               char byte;
               CHECK(read(p[0], &byte, 1) == 1);
               close(p[0]);
               CHECK(code_of(writer) == 1000 + SIGPIPE);
               return 0;
           }"#,
    );
}

#[test]
fn exec_takes_arguments_environment_and_descriptors_along_and_leaves_handlers_and_memory_behind() {
    passes(
        r#"static void on(int s) {}
           int main(int c, char **v) {
               if (c == 4 && !strcmp(v[1], "again")) {
                   CHECK(!strcmp(getenv("ONLY"), "this") && environ[1] == 0);
                   int kept = atoi(v[2]), closed = atoi(v[3]);
                   CHECK(fcntl(kept, F_GETFD) == 0);
                   CHECK(fcntl(closed, F_GETFD) == -1 && errno == EBADF);
                   struct sigaction act;
                   CHECK(sigaction(SIGUSR1, 0, &act) == 0 && act.sa_handler == SIG_DFL);
                   CHECK(sigaction(SIGUSR2, 0, &act) == 0 && act.sa_handler == SIG_IGN);
                   sigset_t set;
                   CHECK(sigprocmask(SIG_BLOCK, 0, &set) == 0 && sigismember(&set, SIGHUP) && !sigismember(&set, SIGINT));
                   char path[64] = {0};
                   CHECK(readlink("/proc/self/exe", path, 63) > 0);
                   char where[64];
                   CHECK(!strcmp(getcwd(where, 64), "/tmp"));
                   printf("%d %s\n", getpid(), v[0]);
                   return 42;
               }
               signal(SIGUSR1, on);
               signal(SIGUSR2, SIG_IGN);
               sigset_t set;
               sigemptyset(&set);
               sigaddset(&set, SIGHUP);
               sigprocmask(SIG_BLOCK, &set, 0);
               CHECK(chdir("/tmp") == 0);
               char kept[8], closed[8];
               snprintf(kept, 8, "%d", open("/dev/null", O_RDONLY));
               snprintf(closed, 8, "%d", open("/dev/null", O_RDONLY | O_CLOEXEC));
               char *args[] = {"name", "again", kept, closed, 0}, *vars[] = {"ONLY=this", 0};
               CHECK(execve("/nowhere", args, vars) == -1 && errno == ENOENT);
               CHECK(execve("/tmp", args, vars) == -1 && errno == EACCES);
               int f = open("/tmp/text", O_CREAT | O_WRONLY, 0755);
               CHECK(write(f, "no program", 10) == 10 && close(f) == 0);
               CHECK(execve("/tmp/text", args, vars) == -1 && errno == ENOEXEC);
               pid_t child = vfork();
               if (!child) { execve("/proc/self/exe", args, vars); _exit(1); }
               CHECK(code_of(child) == 42);
               CHECK(posix_spawn(&child, "/proc/self/exe", 0, 0, args, vars) == 0 && code_of(child) == 42);
               CHECK(posix_spawn(&child, "/nowhere", 0, 0, args, vars) == ENOENT);
               // A program in memory, not in the image.
               f = open("/proc/self/exe", O_RDONLY);
               int to = open("/tmp/copy", O_CREAT | O_WRONLY, 0755);
               static char block[65536];
               for (long got; (got = read(f, block, sizeof block)) > 0;) CHECK(write(to, block, got) == got);
               close(f), close(to);
               CHECK(posix_spawn(&child, "/tmp/copy", 0, 0, args, vars) == 0 && code_of(child) == 42);
               return 0;
           }"#,
    );
}

#[test]
fn the_first_program_may_run_another_in_its_place() {
    let ran = run(&program(
        r#"static void *spin(void *a) { for (;;) pause(); }
           int main(int c, char **v) {
               if (c == 2) { printf("pid %d\n", getpid()); return 5; }
               pthread_t t;
               for (int i = 0; i < 3; i++) CHECK(pthread_create(&t, 0, spin, 0) == 0);
               char *args[] = {v[0], "second", 0};
               execv("/proc/self/exe", args);
               return 1;
           }"#,
    ));
    assert_eq!((ran.code, ran.out.as_str()), (Some(5), "pid 1\n"), "{}", ran.err);
}

#[test]
fn a_process_ends_with_all_its_threads_wherever_they_wait() {
    passes(
        r#"static int p[2];
           static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
           static void *reads(void *a) { char b; read(p[0], &b, 1); return 0; }
           static void *locks(void *a) { pthread_mutex_lock(&lock); return 0; }
           static void *sleeps(void *a) { sleep(100); return 0; }
           static void *spins(void *a) { for (volatile long i = 0;; i++); }
           int main() {
               CHECK(pipe(p) == 0);
               pid_t child = fork();
               if (!child) {
                   void *(*all[])(void *) = {reads, locks, sleeps, spins};
                   pthread_t t;
                   pthread_mutex_lock(&lock);
                   for (int i = 0; i < 4; i++) CHECK(pthread_create(&t, 0, all[i], 0) == 0);
                   usleep(20000);
                   exit(9);
               }
               // The pipe's end says that no thread holds it any more.
               close(p[1]);
               char byte;
               CHECK(read(p[0], &byte, 1) == 0);
               CHECK(code_of(child) == 9);
               return 0;
           }"#,
    );
}

#[test]
fn a_thread_that_waits_in_a_call_gets_its_bytes_though_another_has_forked_meanwhile() {
    passes(
        r#"#define PAGES 1000
           static int p[2];
           static char *m;
           static void *reads(void *a) { return (void *)read(p[0], m, 4096); }
           int main() {
               m = mmap(0, PAGES * 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
               memset(m, 1, PAGES * 4096);
               /* The first pages are copied by the fork; this one is shared. */
               m += 900 * 4096;
               CHECK(pipe(p) == 0);
               pthread_t t;
               CHECK(pthread_create(&t, 0, reads, 0) == 0);
               usleep(20000);
               pid_t child = fork();
               if (!child) { usleep(50000); CHECK(m[0] == 1); _exit(0); }
               CHECK(write(p[1], "bytes", 5) == 5);
               void *got;
               CHECK(pthread_join(t, &got) == 0 && (long)got == 5 && !memcmp(m, "bytes", 5));
               CHECK(code_of(child) == 0);
               return 0;
           }"#,
    );
}

#[test]
fn groups_sessions_and_alarms_are_each_processs_own() {
    passes(
        r#"static volatile int rings;
           static void ring(int s) { rings++; }
           int main() {
               pid_t a = fork();
               if (!a) { CHECK(setpgid(0, 0) == 0 && getpgrp() == getpid()); for (;;) pause(); }
               pid_t b = fork();
               if (!b) { for (;;) pause(); }
               while (getpgid(a) != a) usleep(1000);
               CHECK(setpgid(b, a) == 0 && getpgid(b) == a && getpgrp() != a);
               CHECK(kill(-a, SIGTERM) == 0);
               CHECK(code_of(a) == 1000 + SIGTERM && code_of(b) == 1000 + SIGTERM);
               pid_t c = fork();
               if (!c) { CHECK(setsid() == getpid() && getsid(0) == getpid() && setsid() == -1); _exit(0); }
               CHECK(code_of(c) == 0);
               pid_t d = fork();
               if (!d) { alarm(1); for (;;); }
               signal(SIGALRM, ring);
               struct itimerval every = {{0, 5000}, {0, 5000}};
               CHECK(setitimer(ITIMER_REAL, &every, 0) == 0);
               while (rings < 3) pause();
               every = (struct itimerval){0};
               CHECK(setitimer(ITIMER_REAL, &every, 0) == 0);
               CHECK(code_of(d) == 1000 + SIGALRM);
               return 0;
           }"#,
    );
}

#[test]
fn a_lock_in_shared_memory_holds_between_processes() {
    passes(
        r#"struct both { pthread_mutex_t lock; pthread_cond_t change; long count; int turn; };
           int main() {
               struct both *s = mmap(0, 4096, 3, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
               pthread_mutexattr_t ma; pthread_condattr_t ca;
               pthread_mutexattr_init(&ma), pthread_mutexattr_setpshared(&ma, 1), pthread_mutex_init(&s->lock, &ma);
               pthread_condattr_init(&ca), pthread_condattr_setpshared(&ca, 1), pthread_cond_init(&s->change, &ca);
               pid_t child = fork();
               int own = child == 0;
               for (int i = 0; i < 1000; i++) {
                   pthread_mutex_lock(&s->lock);
                   while (s->turn != own) pthread_cond_wait(&s->change, &s->lock);
                   s->count++;
                   s->turn = !own;
                   pthread_cond_signal(&s->change);
                   pthread_mutex_unlock(&s->lock);
               }
               if (own) _exit(0);
               CHECK(code_of(child) == 0 && s->count == 2000);
               return 0;
           }"#,
    );
}

#[test]
fn descriptors_travel_between_processes_over_a_unix_socket() {
    passes(
        r#"#include <sys/socket.h>
           static void give(int over, int fd, char byte) {
               char control[CMSG_SPACE(4)] = {0};
               struct iovec part = {&byte, 1};
               struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
               struct cmsghdr *c = CMSG_FIRSTHDR(&m);
               c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(4);
               memcpy(CMSG_DATA(c), &fd, 4);
               CHECK(sendmsg(over, &m, 0) == 1);
           }
           static int take(int over, char *bytes, int room, int *got) {
               char control[CMSG_SPACE(4)];
               struct iovec part = {bytes, room};
               struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
               CHECK((*got = recvmsg(over, &m, MSG_CMSG_CLOEXEC)) > 0);
               struct cmsghdr *c = CMSG_FIRSTHDR(&m);
               if (!c) return -1;
               CHECK(c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(4));
               int fd;
               memcpy(&fd, CMSG_DATA(c), 4);
               CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC);
               return fd;
           }
           int main() {
               int s[2];
               CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
               pid_t child = fork();
               if (!child) {
                   close(s[0]);
                   int p[2];
                   CHECK(pipe(p) == 0 && write(s[1], "before", 6) == 6);
                   give(s[1], p[0], 'x');
                   give(s[1], p[0], 'y');
                   CHECK(write(p[1], "through", 7) == 7);
                   _exit(0);
               }
               close(s[1]);
               CHECK(code_of(child) == 0);
               char bytes[32];
               int got, fd;
               // Bytes before the message come without it, and two messages do not become one.
               CHECK(take(s[0], bytes, 32, &got) == -1 && got == 6);
               CHECK((fd = take(s[0], bytes, 32, &got)) >= 0 && got == 1 && bytes[0] == 'x');
               // The second one's descriptor is closed, as a plain read does not want it: then the pipe ends with its bytes.
               CHECK(read(s[0], bytes, 32) == 1 && bytes[0] == 'y');
               CHECK(read(fd, bytes, 32) == 7 && !memcmp(bytes, "through", 7) && read(fd, bytes, 32) == 0);
               CHECK(read(s[0], bytes, 32) == 0);
               return 0;
           }"#,
    );
}

#[test]
fn many_processes_in_turn_leave_no_memory_behind_and_too_many_are_refused() {
    let ran = run_with(
        &program(
            r#"int main() {
                   for (int i = 0; i < 3000; i++) {
                       pid_t child = fork();
                       CHECK(child >= 0);
                       if (!child) _exit(i % 100);
                       CHECK(code_of(child) == i % 100);
                   }
                   int n = 0;
                   pid_t child;
                   while ((child = fork()) > 0) n++;
                   if (!child) { for (;;) pause(); }
                   CHECK(errno == EAGAIN || errno == ENOMEM);
                   CHECK(n > 100);
                   CHECK(kill(-1, SIGKILL) == 0);
                   while (wait(0) > 0) n--;
                   CHECK(n == 0);
                   child = fork();
                   if (!child) _exit(3);
                   CHECK(code_of(child) == 3);
                   return 0;
               }"#,
        )
        .path,
        &["--stats", "--memory", "128M"],
        &[],
    );
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let held = ran.stat("memory");
    assert!(held < 4 << 20, "{held} bytes are in use at the end");
}

#[test]
fn a_script_names_its_interpreter_and_a_dynamic_program_is_executed_with_its_loader() {
    let dynamic = c(
        r#"#include <stdio.h>
           int main(int c, char **v) { for (int i = 0; i < c; i++) printf("[%s]", v[i]); puts(""); return c; }"#,
        &[],
    );
    let root = root_of(&dynamic.path, "show");
    put(&root, "bin/script", "#!/bin/show  one word \nignored\n", 0o755);
    let starter = program(
        r#"int main(int c, char **v) {
               char *args[] = {"called", "a", "b", 0};
               pid_t child;
               CHECK(posix_spawn(&child, "/bin/script", 0, 0, args, environ) == 0);
               return code_of(child);
           }"#,
    );
    std::fs::copy(&starter.path, root.path().join("bin/start")).unwrap();
    let ran = in_image(&root, "/bin/start", &[]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(5), "[/bin/show][one word][/bin/script][a][b]\n"), "{}", ran.err);
}
