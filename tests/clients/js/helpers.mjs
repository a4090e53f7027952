// What the suites share: the node's addresses, loader-v3 instructions as plain data, and waiting.

import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

function setting(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set; run the suites by: cargo xtask test`);
  return value;
}

export const rpcUrl = setting('OSVM_RPC_URL');
export const wsUrl = setting('OSVM_WS_URL');

/** Ready programs: memo answers with a log, the token program refuses what memo takes. */
export const elf = {
  memo: readFileSync(join(setting('OSVM_ELF_DIR'), 'spl_memo-4.0.0.so')),
  token: readFileSync(join(setting('OSVM_ELF_DIR'), 'pinocchio_token_program.so')),
};

export const LOADER = 'BPFLoaderUpgradeab1e11111111111111111111111';
export const SYSTEM = '11111111111111111111111111111111';
const RENT = 'SysvarRent111111111111111111111111111111111';
const CLOCK = 'SysvarC1ock11111111111111111111111111111111';

/** Bytes of a buffer, a program and a program-data account before the program itself. */
export const BUFFER_HEAD = 37;
export const PROGRAM_SIZE = 36;
/** As much of a program as a write with one signature holds, in a version 0 transaction too. */
export const CHUNK = 1000;

const tagged = (tag, ...parts) => {
  const head = Buffer.alloc(4);
  head.writeUInt32LE(tag);
  return Buffer.concat([head, ...parts]);
};
const u32 = (value) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};
const u64 = (value) => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
};
const meta = (address, flags = '') => ({ address, writable: flags.includes('w'), signer: flags.includes('s') });

export const loader = {
  initializeBuffer: (buffer, authority) => ({
    program: LOADER,
    accounts: [meta(buffer, 'w'), meta(authority)],
    data: tagged(0),
  }),
  write: (buffer, authority, offset, bytes) => ({
    program: LOADER,
    accounts: [meta(buffer, 'w'), meta(authority, 's')],
    data: tagged(1, u32(offset), u64(bytes.length), bytes),
  }),
  deploy: (payer, programData, program, buffer, authority, maxLength) => ({
    program: LOADER,
    accounts: [
      meta(payer, 'ws'), meta(programData, 'w'), meta(program, 'w'), meta(buffer, 'w'),
      meta(RENT), meta(CLOCK), meta(SYSTEM), meta(authority, 's'),
    ],
    data: tagged(2, u64(maxLength)),
  }),
  upgrade: (programData, program, buffer, spill, authority) => ({
    program: LOADER,
    accounts: [
      meta(programData, 'w'), meta(program, 'w'), meta(buffer, 'w'), meta(spill, 'w'),
      meta(RENT), meta(CLOCK), meta(authority, 's'),
    ],
    data: tagged(3),
  }),
};

export function chunks(bytes) {
  const list = [];
  for (let offset = 0; offset < bytes.length; offset += CHUNK) {
    list.push({ offset, bytes: bytes.subarray(offset, offset + CHUNK) });
  }
  return list;
}

/** Fails a promise that nothing settles. */
export function within(ms, what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nothing within ${ms} ms`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** A promise and the function that settles it. */
export function signal() {
  let settle;
  const promise = new Promise((resolve) => { settle = resolve; });
  return { promise, settle };
}

/** Asks again and again until the answer is there: HTTP offers no event. */
export async function eventually(what, ask, ms = 15000) {
  const deadline = Date.now() + ms;
  for (;;) {
    const answer = await ask();
    if (answer) return answer;
    if (Date.now() > deadline) throw new Error(`${what}: not so within ${ms} ms`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** `osvm ARGS --output json`: its exit code and what it printed. */
export function osvm(...args) {
  return new Promise((resolve, reject) => {
    const child = spawn(setting('OSVM_BIN'), [...args, '--output', 'json'], { stdio: ['ignore', 'pipe', 'pipe'] });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (data) => { stdout += data; });
    child.stderr.on('data', (data) => { stderr += data; });
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, stdout, stderr }));
  });
}
