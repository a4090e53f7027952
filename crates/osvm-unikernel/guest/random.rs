//! Random bytes: ChaCha20 keyed by the seed that the monitor gave to this VM alone; the key moves on with each use.

use crate::cell::Global;

static KEY: Global<[u32; 8]> = Global::new([0; 8]);

/// Takes the seed.
pub fn init(seed: [u64; 4]) {
    let mut key = KEY.get();
    for (n, word) in seed.into_iter().enumerate() {
        (key[2 * n], key[2 * n + 1]) = (word as u32, (word >> 32) as u32);
    }
}

/// Takes a clone's seed: what it gives out from now on, no other clone does.
pub fn renew(seed: [u64; 4]) {
    let mut key = KEY.get();
    for (n, word) in seed.into_iter().enumerate() {
        key[2 * n] ^= word as u32;
        key[2 * n + 1] ^= (word >> 32) as u32;
    }
}

fn quarter(s: &mut [u32; 16], a: usize, b: usize, c: usize, d: usize) {
    for (x, y, z, by) in [(a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)] {
        s[x] = s[x].wrapping_add(s[y]);
        s[z] = (s[z] ^ s[x]).rotate_left(by);
    }
}

fn block(key: &[u32; 8], counter: u64) -> [u8; 64] {
    let mut start = [0u32; 16];
    start[..4].copy_from_slice(&[0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574]);
    start[4..12].copy_from_slice(key);
    (start[12], start[13]) = (counter as u32, (counter >> 32) as u32);
    let mut s = start;
    for _ in 0..10 {
        quarter(&mut s, 0, 4, 8, 12);
        quarter(&mut s, 1, 5, 9, 13);
        quarter(&mut s, 2, 6, 10, 14);
        quarter(&mut s, 3, 7, 11, 15);
        quarter(&mut s, 0, 5, 10, 15);
        quarter(&mut s, 1, 6, 11, 12);
        quarter(&mut s, 2, 7, 8, 13);
        quarter(&mut s, 3, 4, 9, 14);
    }
    let mut out = [0; 64];
    for n in 0..16 {
        out[4 * n..4 * n + 4].copy_from_slice(&s[n].wrapping_add(start[n]).to_le_bytes());
    }
    out
}

/// Fills a buffer. What was given out cannot be had again from the state.
pub fn fill(out: &mut [u8]) {
    let mut key = KEY.get();
    for (n, part) in out.chunks_mut(64).enumerate() {
        part.copy_from_slice(&block(&key, n as u64 + 1)[..part.len()]);
    }
    let next = block(&key, 0);
    for n in 0..8 {
        key[n] = u32::from_le_bytes([next[4 * n], next[4 * n + 1], next[4 * n + 2], next[4 * n + 3]]);
    }
}

/// A number.
pub fn number() -> u64 {
    let mut bytes = [0; 8];
    fill(&mut bytes);
    u64::from_le_bytes(bytes)
}
