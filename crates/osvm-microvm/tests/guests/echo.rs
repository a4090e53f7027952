//! A guest without an operating system: a virtio-vsock driver that says that it is ready, echoes on port 7, and resets the machine
//! on port 9.
#![no_std]
#![no_main]

use core::{
    arch::{asm, global_asm},
    panic::PanicInfo,
    ptr::{addr_of, addr_of_mut, read_volatile, write_volatile},
    sync::atomic::{Ordering, fence},
};

global_asm!(include_str!("start.s"));

unsafe extern "C" {
    static mut idt: [u64; 512];
    fn on_call();
    fn on_interrupt();
}

const QUEUE: usize = 64;
const BUFFER: usize = 4096;
const HEADER: usize = 44;
const ECHO: u32 = 7;
const RESET: u32 = 9;
const HOST: u64 = 2;
const READY: u32 = 1025;
const PREAMBLE: &[u8] = b"osvmag\x01\x00";
const ROOM: usize = 16 << 10;
const CONNECTIONS: usize = 32;

const REQUEST: u16 = 1;
const RESPONSE: u16 = 2;
const RST: u16 = 3;
const SHUTDOWN: u16 = 4;
const RW: u16 = 5;
const CREDIT_UPDATE: u16 = 6;
const CREDIT_REQUEST: u16 = 7;

#[repr(C, align(4096))]
struct Queue {
    desc: [[u64; 2]; QUEUE],
    avail: [u16; 2 + QUEUE],
    pad: [u16; 2],
    used: Used,
    seen: u16,
    next: u16,
    buffers: [[u8; BUFFER]; QUEUE],
}

#[repr(C, align(4))]
struct Used {
    flags: u16,
    index: u16,
    ring: [[u32; 2]; QUEUE],
}

#[derive(Clone, Copy)]
struct Connection {
    open: bool,
    closing: bool,
    own_port: u32,
    port: u32,
    start: usize,
    held: usize,
    forwarded: u32,
    sent: u32,
    their_room: u32,
    their_forwarded: u32,
    bytes: [u8; ROOM],
}

const NONE: Connection = Connection {
    open: false,
    closing: false,
    own_port: 0,
    port: 0,
    start: 0,
    held: 0,
    forwarded: 0,
    sent: 0,
    their_room: 0,
    their_forwarded: 0,
    bytes: [0; ROOM],
};

const EMPTY: Queue = Queue {
    desc: [[0; 2]; QUEUE],
    avail: [0; 2 + QUEUE],
    pad: [0; 2],
    used: Used { flags: 0, index: 0, ring: [[0; 2]; QUEUE] },
    seen: 0,
    next: 0,
    buffers: [[0; BUFFER]; QUEUE],
};

static mut QUEUES: [Queue; 3] = [EMPTY; 3];
static mut TABLE: [Connection; CONNECTIONS] = [NONE; CONNECTIONS];
static mut BASE: usize = 0;
static mut CID: u64 = 0;

fn call(number: u64, argument: u64) {
    unsafe {
        asm!("ud2", inout("rax") number => _, inout("rdx") argument => _);
    }
}

fn say(text: &str) {
    for byte in text.bytes() {
        call(0, byte.into());
    }
}

fn reset() -> ! {
    loop {
        call(1, 0);
    }
}

/// Core is compiled for unwinding and asks for this name; nothing unwinds here.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

#[panic_handler]
fn panicked(_: &PanicInfo) -> ! {
    say("guest: panicked\n");
    reset()
}

fn get(register: usize) -> u32 {
    unsafe { read_volatile((BASE + register) as *const u32) }
}

fn set(register: usize, value: u32) {
    unsafe { write_volatile((BASE + register) as *mut u32, value) }
}

fn queue(number: usize) -> &'static mut Queue {
    unsafe { &mut *addr_of_mut!(QUEUES[number]) }
}

fn connection(number: usize) -> &'static mut Connection {
    unsafe { &mut *addr_of_mut!(TABLE[number]) }
}

/// Gives a buffer to the device.
fn offer(number: usize, index: usize, length: usize, writable: bool) {
    let queue = queue(number);
    let flags: u64 = if writable { 2 } else { 0 };
    let address = addr_of!(queue.buffers[index]) as u64;
    unsafe {
        write_volatile(&mut queue.desc[index], [address, length as u64 | flags << 32]);
        let at = 2 + usize::from(queue.next) % QUEUE;
        write_volatile(&mut queue.avail[at], index as u16);
        fence(Ordering::SeqCst);
        queue.next = queue.next.wrapping_add(1);
        write_volatile(&mut queue.avail[1], queue.next);
        fence(Ordering::SeqCst);
    }
}

/// The next buffer that the device is done with.
fn done(number: usize) -> Option<usize> {
    let queue = queue(number);
    unsafe {
        fence(Ordering::SeqCst);
        if read_volatile(&queue.used.index) == queue.seen {
            return None;
        }
        let [index, _] = read_volatile(&queue.used.ring[usize::from(queue.seen) % QUEUE]);
        queue.seen = queue.seen.wrapping_add(1);
        Some(index as usize % QUEUE)
    }
}

fn word(buffer: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([buffer[at], buffer[at + 1], buffer[at + 2], buffer[at + 3]])
}

/// Sends one packet. Waits until the last one was taken, so that one buffer is enough.
fn send(op: u16, own: u32, port: u32, forwarded: u32, data: &[u8]) {
    let buffer = &mut queue(1).buffers[0];
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        buffer[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    put(&unsafe { CID }.to_le_bytes());
    put(&HOST.to_le_bytes());
    put(&own.to_le_bytes());
    put(&port.to_le_bytes());
    put(&(data.len() as u32).to_le_bytes());
    put(&1u16.to_le_bytes());
    put(&op.to_le_bytes());
    put(&0u32.to_le_bytes());
    put(&(ROOM as u32).to_le_bytes());
    put(&forwarded.to_le_bytes());
    put(data);
    offer(1, 0, HEADER + data.len(), false);
    set(0x50, 1);
    while done(1).is_none() {
        call(2, 0);
    }
}

fn receive(packet: &[u8]) {
    let (port, own, length) = (word(packet, 16), word(packet, 20), word(packet, 24) as usize);
    let op = word(packet, 28) >> 16;
    let data = &packet[HEADER..HEADER + length.min(BUFFER - HEADER)];
    let found =
        (0..CONNECTIONS).find(|&n| connection(n).open && connection(n).own_port == own && connection(n).port == port);
    if op as u16 == REQUEST {
        let free = (0..CONNECTIONS).find(|&n| !connection(n).open);
        match (own, found, free) {
            (RESET, ..) => {
                say("guest: asked to reset\n");
                reset();
            }
            (ECHO, None, Some(free)) => {
                let new = connection(free);
                *new = Connection { open: true, own_port: own, port, their_room: word(packet, 36), ..NONE };
                send(RESPONSE, own, port, 0, &[]);
            }
            _ => send(RST, own, port, 0, &[]),
        }
        return;
    }
    let Some(known) = found.map(connection) else {
        if op as u16 != RST {
            send(RST, own, port, 0, &[]);
        }
        return;
    };
    known.their_room = word(packet, 36);
    known.their_forwarded = word(packet, 40);
    match op as u16 {
        RESPONSE => {
            known.sent += PREAMBLE.len() as u32;
            send(RW, own, port, 0, PREAMBLE);
            say("guest: ready\n");
        }
        RW if known.held + data.len() <= ROOM => {
            for &byte in data {
                known.bytes[(known.start + known.held) % ROOM] = byte;
                known.held += 1;
            }
        }
        CREDIT_REQUEST => send(CREDIT_UPDATE, own, port, known.forwarded, &[]),
        CREDIT_UPDATE => {}
        SHUTDOWN => known.closing = true,
        RST => known.open = false,
        _ => {
            known.open = false;
            send(RST, own, port, 0, &[]);
        }
    }
}

/// Sends back what a connection holds, as far as the host has room.
fn flush(known: &mut Connection) {
    while known.open && known.held > 0 {
        let room = known.their_room.saturating_sub(known.sent.wrapping_sub(known.their_forwarded)) as usize;
        let count = known.held.min(room).min(BUFFER - HEADER).min(ROOM - known.start);
        if count == 0 {
            return;
        }
        known.forwarded = known.forwarded.wrapping_add(count as u32);
        known.sent = known.sent.wrapping_add(count as u32);
        let (own, port, start) = (known.own_port, known.port, known.start);
        known.start = (start + count) % ROOM;
        known.held -= count;
        send(RW, own, port, known.forwarded, &known.bytes[start..start + count]);
    }
    if known.open && known.closing {
        known.open = false;
        send(RST, known.own_port, known.port, known.forwarded, &[]);
    }
}

fn tell_ready() {
    static mut LAST: u32 = 999;
    let own = unsafe {
        LAST += 1;
        LAST
    };
    *connection(0) = Connection { open: true, own_port: own, port: READY, ..NONE };
    send(REQUEST, own, READY, 0, &[]);
}

fn hex(text: &[u8]) -> usize {
    text.iter().map_while(|&byte| (byte as char).to_digit(16)).fold(0, |sum, digit| sum * 16 + digit as usize)
}

/// The address of the device with this number, from the kernel's command line: `virtio_mmio.device=4K@0xADDRESS:IRQ`.
fn device(zero_page: usize, wanted: u32) -> bool {
    let line = unsafe { read_volatile((zero_page + 0x228) as *const u32) } as *const u8;
    let text = unsafe { core::slice::from_raw_parts(line, 2048) };
    const KEY: &[u8] = b"virtio_mmio.device=4K@0x";
    for at in 0..text.len() - KEY.len() {
        if text[at] == 0 {
            return false;
        }
        if text[at..].starts_with(KEY) {
            unsafe { BASE = hex(&text[at + KEY.len()..]) };
            if get(0) == 0x7472_6976 && get(8) == wanted {
                return true;
            }
        }
    }
    false
}

fn gate(vector: usize, handler: unsafe extern "C" fn()) {
    let handler = handler as *const () as u64;
    unsafe {
        idt[vector * 2] = handler & 0xffff | 0x10 << 16 | 0x8e00 << 32 | (handler >> 16 & 0xffff) << 48;
        idt[vector * 2 + 1] = handler >> 32;
    }
}

#[unsafe(no_mangle)]
extern "C" fn main(zero_page: usize) -> ! {
    gate(6, on_call);
    (0x20..0x30).for_each(|vector| gate(vector, on_interrupt));
    if !device(zero_page, 19) {
        say("guest: no vsock device\n");
        reset();
    }
    set(0x70, 0);
    set(0x70, 1);
    set(0x70, 3);
    set(0x24, 1);
    set(0x20, 1);
    set(0x24, 0);
    set(0x20, 0);
    set(0x70, 11);
    for number in 0..3 {
        let queue = queue(number);
        set(0x30, number as u32);
        set(0x38, QUEUE as u32);
        for (register, address) in [
            (0x80, addr_of!(queue.desc) as u64),
            (0x90, addr_of!(queue.avail) as u64),
            (0xa0, addr_of!(queue.used) as u64),
        ] {
            set(register, address as u32);
            set(register + 4, (address >> 32) as u32);
        }
        set(0x44, 1);
    }
    set(0x70, 15);
    unsafe { CID = u64::from(get(0x100)) | u64::from(get(0x104)) << 32 };
    for index in 0..QUEUE {
        offer(0, index, BUFFER, true);
        offer(2, index, BUFFER, true);
    }
    set(0x50, 0);
    set(0x50, 2);
    tell_ready();
    loop {
        let mut busy = false;
        // After a restore the host forgot every connection.
        while let Some(index) = done(2) {
            offer(2, index, BUFFER, true);
            (0..CONNECTIONS).for_each(|n| connection(n).open = false);
            tell_ready();
            busy = true;
        }
        while let Some(index) = done(0) {
            let packet: *const [u8; BUFFER] = &queue(0).buffers[index];
            receive(unsafe { &*packet });
            offer(0, index, BUFFER, true);
            set(0x50, 0);
            busy = true;
        }
        (0..CONNECTIONS).for_each(|n| flush(connection(n)));
        if !busy {
            call(2, 0);
        }
    }
}

/// The compiler calls these; loops that it does not turn into calls of themselves.
mod memory {
    use core::arch::asm;

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
        unsafe { asm!("rep movsb", inout("rdi") to => _, inout("rsi") from => _, inout("rcx") count => _) };
        to
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memset(to: *mut u8, byte: i32, count: usize) -> *mut u8 {
        unsafe { asm!("rep stosb", inout("rdi") to => _, in("eax") byte, inout("rcx") count => _) };
        to
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcmp(one: *const u8, two: *const u8, count: usize) -> i32 {
        for at in 0..count {
            let (a, b) = unsafe { (*one.add(at), *two.add(at)) };
            if a != b {
                return i32::from(a) - i32::from(b);
            }
        }
        0
    }
}
