//! Shells, and the tools that their scripts start.

use crate::image::{in_image, put, script, tools};

#[test]
fn bash_runs_pipelines_jobs_and_substitutions() {
    let Some(root) = tools(&["bash", "tr", "wc", "seq", "sort", "head", "cat", "ls", "sleep", "grep"]) else { return };
    let ran = script(&root, "/bin/bash", "echo a | tr a b | wc -c");
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(0), "2\n", ""));
    let ran = script(
        &root,
        "/bin/bash",
        r#"seq 1 2000 | sort -rn | head -1
           x=$(seq 1 100 | wc -l); echo $x
           (exit 3); echo $?
           for i in 1 2 3; do sleep 0.01 & done; wait; echo waited $?
           cat <(echo process) <(echo substitution)
           cat <<< here
           set -o pipefail; false | true; echo $?
           trap 'echo trapped' USR1; kill -USR1 $$
           ls /proc/self/fd | wc -l # two are those of the substitutions
           yes() { while :; do echo y || exit; done; }; yes | head -2
           coproc cat; echo through >&${COPROC[1]}; read -r back <&${COPROC[0]}; echo $back
           exec bash -c 'echo $0 $1; exit 7' last one"#,
    );
    let wanted = "2000\n100\n3\nwaited 0\nprocess\nsubstitution\nhere\n1\ntrapped\n6\ny\ny\nthrough\nlast one\n";
    assert_eq!((ran.code, ran.out.as_str()), (Some(7), wanted), "{}", ran.err);
}

#[test]
fn busybox_runs_scripts_with_itself_as_all_tools() {
    let Some(root) = tools(&["busybox"]) else { return };
    let applets = "sh seq awk sed grep find sort tail wc xargs cat ls rm mkdir ps sleep";
    for applet in applets.split(' ') {
        std::os::unix::fs::symlink("busybox", root.path().join("bin").join(applet)).unwrap();
    }
    put(
        &root,
        "run.sh",
        r#"#!/bin/sh
           set -e
           seq 1 1000 | awk '{ s += $1 } END { print s }'
           i=0; while [ $i -lt 20 ]; do (echo $i); i=$((i + 1)); done | sort -n | tail -1
           mkdir -p /tmp/a/b; for n in 1 2 3; do echo $n > /tmp/a/b/$n; done
           find /tmp/a -type f | xargs cat | wc -l
           sleep 9 & ps -o pid,ppid,args | awk '/sleep 9$/ { print "process", $1 != 1, $2 }'; kill $!
           f() { echo "f $1"; }; f x | sed s/x/y/
           cat <<-END | grep -c o
		one
		two
		three
		END
           rm -r /tmp/a; [ ! -e /tmp/a ] && echo gone"#,
        0o755,
    );
    let ran = in_image(&root, "/bin/sh", &["/run.sh"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "500500\n19\n3\nprocess 1 1\nf y\n2\ngone\n"), "{}", ran.err);
}
