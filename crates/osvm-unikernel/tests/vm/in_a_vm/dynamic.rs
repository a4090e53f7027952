//! Dynamic programs, with their libraries in an image.

use std::{fs, path::Path};

use crate::{
    image::{in_image, python, root_of},
    support::{c, run_with, static_c},
};

#[test]
fn a_dynamic_program_is_loaded_by_the_loader_of_its_image_and_reads_its_files() {
    let program = c(
        r#"#include <dirent.h>
           #include <math.h>
           #include <stdio.h>
           #include <string.h>
           int main(int c, char **v) {
               char line[64] = "";
               FILE *f = fopen("/etc/motd", "r");
               if (!f || !fgets(line, sizeof line, f)) return 1;
               DIR *d = opendir("/data");
               int n = 0;
               for (struct dirent *e; (e = readdir(d));) n += e->d_name[0] != '.';
               f = fopen("/data/link", "r+");
               if (!f || fputs("changed", f) < 0 || fclose(f)) return 2;
               f = fopen("/data/file", "r");
               char back[64] = "";
               fgets(back, sizeof back, f);
               printf("%s %d %s %.3f\n", line, n, back, cos(c));
               return 0;
           }"#,
        &[],
    );
    let root = root_of(&program.path, "program");
    fs::create_dir_all(root.path().join("etc")).unwrap();
    fs::create_dir_all(root.path().join("data")).unwrap();
    fs::write(root.path().join("etc/motd"), "from the image").unwrap();
    fs::write(root.path().join("data/file"), "original").unwrap();
    std::os::unix::fs::symlink("/data/file", root.path().join("data/link")).unwrap();
    let ran = in_image(&root, "/bin/program", &[]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "from the image 2 changedl 0.540\n"), "{}", ran.err);
    assert_eq!(fs::read_to_string(root.path().join("data/file")).unwrap(), "original", "the image is not changed");
}

#[test]
fn no_link_in_an_images_folder_leads_out_of_it() {
    let (inside, outside) = (tempfile::tempdir().unwrap(), static_c("int main() { return 3; }"));
    std::os::unix::fs::symlink(&outside.path, inside.path().join("absolute")).unwrap();
    std::os::unix::fs::symlink("../".repeat(20) + outside.path.to_str().unwrap(), inside.path().join("relative"))
        .unwrap();
    let folder = inside.path().to_str().unwrap();
    for name in ["/absolute", "/relative", outside.path.to_str().unwrap()] {
        let ran = run_with(Path::new(name), &["--rootfs", folder], &[]);
        assert_eq!(ran.code, Some(125), "{name}: {}", ran.err);
        assert!(ran.err.contains("No such file"), "{name}: {}", ran.err);
    }
}

#[test]
fn a_dynamic_program_without_its_loader_is_refused_in_words() {
    let program = c("int main() { return 0; }", &[]);
    let ran = run_with(&program.path, &[], &[]);
    assert_eq!(ran.code, Some(126));
    assert!(ran.err.contains("ld-linux-x86-64.so.2 is not in the image"), "{}", ran.err);
}

#[test]
fn the_systems_python_runs_its_standard_library() {
    let (root, program) = python();
    let script = r#"
import asyncio, hashlib, json, os, sqlite3, ssl, sys, threading, time, http.server, urllib.request
assert json.loads(json.dumps({"a": [1, 2.5, None]})) == {"a": [1, 2.5, None]}
print(hashlib.sha256(b"x").hexdigest()[:8])
base = sqlite3.connect("/tmp/base.db")
base.execute("create table t (n integer)")
base.executemany("insert into t values (?)", ((n,) for n in range(1000)))
base.commit()
print(base.execute("select sum(n) from t").fetchone()[0])
total = []
threads = [threading.Thread(target=lambda n=n: total.append(sum(range(n * 1000)))) for n in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
print(sum(total))
async def nap(n):
    await asyncio.sleep(0.01)
    return n
async def all():
    return sum(await asyncio.gather(*(nap(n) for n in range(100))))
print(asyncio.run(all()))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"served " + self.path.encode())
    def log_message(self, *a): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(urllib.request.urlopen("http://127.0.0.1:%d/page" % server.server_port).read().decode())
server.shutdown()
print(ssl.OPENSSL_VERSION.split()[0], len(os.urandom(16)), os.getpid())
"#;
    let ran = in_image(&root, &program, &["-I", "-B", "-c", script]);
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (Some(0), "2d711642\n499500\n69986000\n4950\nserved /page\nOpenSSL 16 1\n"),
        "{}",
        ran.err
    );
}
