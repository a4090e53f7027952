//! Threads, channels, locks, time, memory, files, loopback and standard input, as a Rust program uses them.
#![forbid(unsafe_code)]

use std::{
    collections::HashMap,
    fs,
    io::{self, BufRead, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

fn main() -> io::Result<()> {
    let (sender, receiver) = mpsc::channel();
    let threads: Vec<_> = (0..8u64)
        .map(|n| {
            let sender = sender.clone();
            thread::spawn(move || {
                (0..1000).fold(0, |sum, i| {
                    sender.send(i).unwrap();
                    sum + i * n
                })
            })
        })
        .collect();
    drop(sender);
    let received = receiver.iter().count();
    let sum: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    println!("channel {received} {sum}");

    // A thread that spins does not starve the one it waits for.
    let flag = Arc::new(AtomicBool::new(false));
    let (theirs, began) = (Arc::clone(&flag), Instant::now());
    let thread = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        theirs.store(true, Ordering::SeqCst);
    });
    while !flag.load(Ordering::SeqCst) {
        std::hint::spin_loop();
    }
    thread.join().unwrap();
    println!("spin {}", began.elapsed() >= Duration::from_millis(20));

    let pair = Arc::new((Mutex::new(0), Condvar::new()));
    let theirs = Arc::clone(&pair);
    let turns = |pair: &(Mutex<u32>, Condvar), own: u32| {
        for _ in 0..1000 {
            let mut number = pair.1.wait_while(pair.0.lock().unwrap(), |number| *number % 2 != own).unwrap();
            *number += 1;
            pair.1.notify_all();
        }
    };
    let thread = thread::spawn(move || turns(&theirs, 1));
    turns(&pair, 0);
    thread.join().unwrap();
    println!("condvar {}", pair.0.lock().unwrap());
    let (number, waited) = pair.1.wait_timeout(pair.0.lock().unwrap(), Duration::from_millis(5)).unwrap();
    println!("timeout {number} {}", waited.timed_out());
    drop(number);

    let map: HashMap<u64, u64> = (0..100_000).map(|n| (n, n * 2)).collect();
    println!("map {}", map.values().sum::<u64>());
    let big = vec![1u8; 64 << 20];
    println!("big {}", big.iter().map(|byte| u64::from(*byte)).sum::<u64>());
    drop(big);

    fs::create_dir_all("/tmp/a/b")?;
    fs::write("/tmp/a/b/c", "text\n")?;
    writeln!(fs::OpenOptions::new().append(true).open("/tmp/a/b/c")?, " more")?;
    let names: Vec<_> = fs::read_dir("/tmp/a")?.map(|entry| entry.unwrap().file_name()).collect();
    println!("file {:?} {names:?}", fs::read_to_string("/tmp/a/b/c")?);
    println!("catch {}", std::panic::catch_unwind(|| assert!(received == 0)).is_err());

    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let thread = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        stream.write_all(text.to_uppercase().as_bytes()).unwrap();
    });
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"over loopback")?;
    stream.shutdown(Shutdown::Write)?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    thread.join().unwrap();
    println!("tcp {text}");

    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    println!("stdin {line:?}");
    println!("cpus {}", thread::available_parallelism()?);
    println!("clock {}", SystemTime::now() > SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
    Ok(())
}
