//! A program for the inside of a Linux guest: what a test asks of one.

use std::{
    env, fs,
    fs::File,
    io::{Read, Write},
    net::TcpListener,
};

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["sum", path] => println!("{:016x}", sum(File::open(path).unwrap())),
        ["fill", path] => {
            let mut file = File::create(path).unwrap();
            let error = loop {
                if let Err(error) = file.write_all(&[1; 1 << 16]) {
                    break error;
                }
            };
            println!("{}", error.raw_os_error().unwrap_or(0));
        }
        ["remove", path] => fs::remove_file(path).unwrap(),
        ["where"] => {
            let cwd = env::current_dir().unwrap();
            let all: Vec<String> = env::vars().map(|(name, value)| format!("{name}={value}")).collect();
            println!("{} {}", cwd.display(), all.join(" "));
        }
        ["copy", code] => {
            let mut all = Vec::new();
            std::io::stdin().read_to_end(&mut all).unwrap();
            std::io::stdout().write_all(&all).unwrap();
            eprintln!("copied {}", all.len());
            std::process::exit(code.parse().unwrap());
        }
        ["wait"] => {
            println!("waiting");
            std::io::stdout().flush().unwrap();
            loop {
                std::thread::park();
            }
        }
        ["echo", port] => {
            let listener = TcpListener::bind(("127.0.0.1", port.parse().unwrap())).unwrap();
            println!("listening");
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || std::io::copy(&mut stream.try_clone().unwrap(), &mut stream));
            }
        }
        ["panic"] => fs::write("/proc/sysrq-trigger", "c").unwrap(),
        other => panic!("{other:?}"),
    }
}

/// FNV-1a, 64 bits.
fn sum(mut from: impl Read) -> u64 {
    let mut buffer = vec![0; 1 << 16];
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    loop {
        let count = from.read(&mut buffer).unwrap();
        if count == 0 {
            return hash;
        }
        for byte in &buffer[..count] {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
