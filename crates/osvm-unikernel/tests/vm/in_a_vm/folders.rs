//! Folders of the host in a VM.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use crate::support::{Program, Ran, run_with, static_c};

const PRELUDE: &str = r#"
    #define _GNU_SOURCE
    #include <dirent.h>
    #include <errno.h>
    #include <fcntl.h>
    #include <pthread.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <string.h>
    #include <sys/file.h>
    #include <sys/mman.h>
    #include <sys/stat.h>
    #include <unistd.h>
    #define CHECK(what) do { if (!(what)) { printf("line %d: %s: %s\n", __LINE__, #what, strerror(errno)); exit(1); } } while (0)
    #define FAILS(what, why) do { errno = 0; CHECK((what) == -1 && errno == why); } while (0)
"#;

fn program(body: &str) -> Program {
    static_c(&format!("{PRELUDE} int main(int c, char **v) {{ {body} return 0; }}"))
}

fn run_in(program: &Program, option: &str, folder: &Path) -> Ran {
    let option = [option, &format!("{}:/data", folder.display())];
    run_with(&program.path, &[&option[..], &["--cwd", "/data"]].concat(), &[])
}

#[track_caller]
fn fine(ran: &Ran) {
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
}

#[test]
fn what_a_program_writes_to_a_folder_is_on_the_host_and_in_the_next_vm() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("old"), "from the host").unwrap();
    let first = program(
        r#"
        char b[100] = {0}; struct stat s;
        int f = open("old", O_RDWR);
        CHECK(f >= 0 && read(f, b, 100) == 13 && !strcmp(b, "from the host"));
        CHECK(lseek(f, 0, SEEK_END) == 13 && write(f, ", and more", 10) == 10 && fstat(f, &s) == 0 && s.st_size == 23);
        CHECK(ftruncate(f, 18) == 0 && pread(f, b, 100, 5) == 13 && fsync(f) == 0 && close(f) == 0);
        f = open("/data/new", O_RDWR | O_CREAT | O_EXCL, 0600);
        CHECK(f >= 0);
        FAILS(open("new", O_CREAT | O_EXCL | O_RDWR, 0600), EEXIST);
        char *big = malloc(3000001);
        for (int n = 0; n < 3000001; n++) big[n] = n * 7;
        CHECK(write(f, big, 3000001) == 3000001 && fdatasync(f) == 0);
        char *back = mmap(0, 3000001, PROT_READ, MAP_PRIVATE, f, 0);
        CHECK(back != MAP_FAILED && !memcmp(back, big, 3000001));
        FAILS((long)mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, f, 0), ENODEV);
        /* The name goes, the open file stays. */
        CHECK(rename("new", "newer") == 0 && stat("new", &s) == -1 && stat("newer", &s) == 0 && s.st_size == 3000001);
        CHECK(mkdir("dir", 0700) == 0 && rename("newer", "dir/newest") == 0 && pwrite(f, "x", 1, 0) == 1);
        int dead = open("dead", O_RDWR | O_CREAT, 0600);
        CHECK(dead >= 0 && unlink("dead") == 0 && write(dead, "ghost", 5) == 5 && pread(dead, b, 5, 0) == 5);
        FAILS(open("dead", O_RDONLY), ENOENT);
        /* One takes another's name, whole. */
        int g = open("dir/other", O_WRONLY | O_CREAT | O_TRUNC, 0640);
        CHECK(write(g, "winner", 6) == 6 && close(g) == 0);
        g = open("loser", O_RDWR | O_CREAT, 0640);
        CHECK(write(g, "loser", 5) == 5 && rename("dir/other", "loser") == 0 && pread(g, b, 5, 0) == 5 && !memcmp(b, "loser", 5));
        FAILS(rmdir("dir"), ENOTEMPTY);
        FAILS(unlink("dir"), EISDIR);
        CHECK(mkdir("gone", 0755) == 0 && rmdir("gone") == 0);
        int d = open("dir", O_RDONLY | O_DIRECTORY);
        CHECK(d >= 0 && fsync(d) == 0);
        int log = open("log", O_WRONLY | O_APPEND | O_CREAT, 0644);
        CHECK(write(log, "one\n", 4) == 4 && lseek(log, 0, SEEK_SET) == 0 && write(log, "two\n", 4) == 4);
        "#,
    );
    fine(&run_in(&first, "--folder", folder.path()));
    let read = |name: &str| fs::read(folder.path().join(name)).unwrap();
    assert_eq!(read("old"), b"from the host, and");
    assert_eq!((read("loser"), read("log")), (b"winner".to_vec(), b"one\ntwo\n".to_vec()));
    let mut big: Vec<u8> = (0..3_000_001u32).map(|n| n.wrapping_mul(7) as u8).collect();
    big[0] = b'x';
    assert!(read("dir/newest") == big);
    assert_eq!(fs::metadata(folder.path().join("dir/newest")).unwrap().permissions().mode() & 0o777, 0o600);
    let mut names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["dir", "log", "loser", "old"]);

    let second = program(
        r#"
        DIR *d = opendir("/data/dir");
        int n = 0;
        for (struct dirent *e; (e = readdir(d));) n += !strcmp(e->d_name, "newest") && e->d_type == DT_REG;
        char x;
        CHECK(n == 1 && pread(open("dir/newest", O_RDONLY), &x, 1, 0) == 1 && x == 'x');
        "#,
    );
    fine(&run_in(&second, "--folder", folder.path()));
}

#[test]
fn nothing_leads_out_of_a_folder_and_nothing_is_written_to_a_read_only_one() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("shared");
    fs::create_dir(&folder).unwrap();
    fs::write(outer.path().join("secret"), "no").unwrap();
    std::os::unix::fs::symlink("../secret", folder.join("link")).unwrap();
    std::os::unix::fs::symlink("..", folder.join("up")).unwrap();
    fs::write(folder.join("file"), "yes").unwrap();
    let program = program(
        r#"
        struct stat s;
        FAILS(open("link", O_RDONLY), ENOENT);
        FAILS(open("up/secret", O_RDONLY), ENOENT);
        FAILS(open("../secret", O_RDONLY), ENOENT);
        FAILS(symlink("/etc/passwd", "mine"), c > 1 ? EROFS : EPERM);
        CHECK(access("file", R_OK) == 0);
        int f = open("/tmp-file", O_RDWR | O_CREAT, 0600);
        CHECK(f >= 0);
        FAILS(rename("/tmp-file", "/data/in"), EXDEV);
        FAILS(rename("file", "/out"), EXDEV);
        FAILS(link("file", "other"), EXDEV);
        "#,
    );
    fine(&run_in(&program, "--folder", &folder));
    let reader = self::program(
        r#"
        char b[4] = {0};
        CHECK(read(open("file", O_RDONLY), b, 4) == 3 && !strcmp(b, "yes"));
        FAILS(open("file", O_RDWR), EROFS);
        FAILS(open("new", O_RDWR | O_CREAT, 0600), EROFS);
        FAILS(unlink("file"), EROFS);
        FAILS(mkdir("d", 0700), EROFS);
        FAILS(rename("file", "f"), EROFS);
        FAILS(truncate("file", 0), EROFS);
        "#,
    );
    fine(&run_in(&reader, "--folder-read-only", &folder));
    assert_eq!(fs::read(folder.join("file")).unwrap(), b"yes");
    assert_eq!(fs::read(outer.path().join("secret")).unwrap(), b"no");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 3);
}

#[test]
fn a_lock_of_the_host_is_a_lock_in_the_vm() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lock");
    let file = fs::File::create(&path).unwrap();
    file.lock().unwrap();
    let taker = program(
        r#"
        int f = open("lock", O_RDWR);
        if (flock(f, LOCK_EX | LOCK_NB) == 0) return 7;
        CHECK(errno == EWOULDBLOCK);
        return 8;
        "#,
    );
    assert_eq!(run_in(&taker, "--folder", folder.path()).code, Some(8));
    drop(file);
    assert_eq!(run_in(&taker, "--folder", folder.path()).code, Some(7));
}

#[test]
fn others_run_while_one_thread_waits_for_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let program = static_c(&format!(
        "{PRELUDE}{}",
        r#"
        static volatile int done, turns;
        static void *other(void *v) { while (!done) { turns++; usleep(100); } return 0; }
        int main() {
            pthread_t t;
            pthread_create(&t, 0, other, 0);
            for (int n = 0; n < 20; n++) {
                int f = open("f", O_RDWR | O_CREAT | O_TRUNC, 0600);
                char *b = calloc(1, 1 << 20);
                CHECK(write(f, b, 1 << 20) == 1 << 20 && fsync(f) == 0 && close(f) == 0);
                free(b);
            }
            done = 1;
            pthread_join(t, 0);
            CHECK(turns > 0);
            return 0;
        }"#
    ));
    fine(&run_in(&program, "--folder", folder.path()));
    assert_eq!(fs::metadata(folder.path().join("f")).unwrap().len(), 1 << 20);
}

#[test]
fn a_folder_with_many_names_is_read_whole_and_many_files_are_used_one_after_another() {
    let folder = tempfile::tempdir().unwrap();
    for n in 0..6000 {
        fs::write(folder.path().join(format!("a rather long name of file number {n}")), n.to_string()).unwrap();
    }
    let program = program(
        r#"
        DIR *d = opendir(".");
        int n = 0, sum = 0;
        for (struct dirent *e; (e = readdir(d));) {
            if (e->d_name[0] == '.') continue;
            char b[16] = {0};
            int f = open(e->d_name, O_RDWR);
            CHECK(f >= 0 && read(f, b, 15) > 0 && close(f) == 0);
            n++, sum += atoi(b);
        }
        CHECK(n == 6000 && sum == 5999 * 3000);
        "#,
    );
    fine(&run_in(&program, "--folder", folder.path()));
}
