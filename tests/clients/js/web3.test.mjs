// @solana/web3.js 1.x and @solana/spl-token.

import assert from 'node:assert/strict';
import { before, test } from 'node:test';

import {
  createMint, getAccount, getMint, getOrCreateAssociatedTokenAccount, mintTo, transfer as transferToken,
} from '@solana/spl-token';
import {
  Connection, Keypair, LAMPORTS_PER_SOL, PublicKey, SendTransactionError, SystemProgram, Transaction,
  TransactionInstruction, sendAndConfirmTransaction,
} from '@solana/web3.js';

import {
  BUFFER_HEAD, LOADER, PROGRAM_SIZE, chunks, elf, eventually, loader, osvm, rpcUrl, signal, within, wsUrl,
} from './helpers.mjs';

const connection = new Connection(rpcUrl, { commitment: 'confirmed', wsEndpoint: wsUrl });
const payer = Keypair.generate();

async function airdrop(to, sol) {
  const signature = await connection.requestAirdrop(to, sol * LAMPORTS_PER_SOL);
  const latest = await connection.getLatestBlockhash();
  const { value } = await connection.confirmTransaction({ signature, ...latest });
  assert.equal(value.err, null);
  return signature;
}

function instruction({ program, accounts, data }) {
  return new TransactionInstruction({
    programId: new PublicKey(program),
    keys: accounts.map(({ address, writable, signer }) => ({
      pubkey: new PublicKey(address), isWritable: writable, isSigner: signer,
    })),
    data,
  });
}

const send = (instructions, ...signers) =>
  sendAndConfirmTransaction(connection, new Transaction().add(...instructions), [payer, ...signers]);

before(() => airdrop(payer.publicKey, 100));

test('web3.js: an airdrop arrives and is in the history', async () => {
  const to = Keypair.generate().publicKey;
  const signature = await airdrop(to, 2);
  assert.equal(await connection.getBalance(to), 2 * LAMPORTS_PER_SOL);
  const history = await connection.getSignaturesForAddress(to);
  assert.deepEqual(history.map((entry) => entry.signature), [signature]);
});

test('web3.js: a transfer moves lamports and costs its fee', async () => {
  const to = Keypair.generate().publicKey;
  const before = await connection.getBalance(payer.publicKey);
  const signature = await send([
    SystemProgram.transfer({ fromPubkey: payer.publicKey, toPubkey: to, lamports: 3 * LAMPORTS_PER_SOL }),
  ]);
  assert.equal(await connection.getBalance(to), 3 * LAMPORTS_PER_SOL);
  assert.equal(await connection.getBalance(payer.publicKey), before - 3 * LAMPORTS_PER_SOL - 5000);
  const found = await connection.getTransaction(signature, { maxSupportedTransactionVersion: 0 });
  assert.equal(found.meta.fee, 5000);
  assert.equal(found.meta.err, null);
  const parsed = await connection.getParsedTransaction(signature, { maxSupportedTransactionVersion: 0 });
  assert.equal(parsed.transaction.message.instructions[0].parsed.type, 'transfer');
  const block = await connection.getBlock(found.slot, { maxSupportedTransactionVersion: 0 });
  assert.ok(block.transactions.some((entry) => entry.transaction.signatures.includes(signature)));
});

test('web3.js: a transfer of what is not there fails in the preflight, with logs', async () => {
  const poor = Keypair.generate();
  await airdrop(poor.publicKey, 1);
  const tx = new Transaction().add(SystemProgram.transfer({
    fromPubkey: poor.publicKey, toPubkey: payer.publicKey, lamports: 5 * LAMPORTS_PER_SOL,
  }));
  await assert.rejects(sendAndConfirmTransaction(connection, tx, [poor]), (error) => {
    assert.ok(error instanceof SendTransactionError, String(error));
    assert.ok(error.logs.some((line) => line.includes('insufficient lamports')), error.logs.join('\n'));
    return true;
  });
});

test('web3.js: tokens are minted and transferred', async () => {
  const [alice, bob] = [Keypair.generate(), Keypair.generate()];
  const mint = await createMint(connection, payer, payer.publicKey, null, 6);
  const from = await getOrCreateAssociatedTokenAccount(connection, payer, mint, alice.publicKey);
  const to = await getOrCreateAssociatedTokenAccount(connection, payer, mint, bob.publicKey);
  await mintTo(connection, payer, mint, from.address, payer, 1_000_000n);
  await transferToken(connection, payer, from.address, to.address, alice, 250_000n);
  assert.equal((await getAccount(connection, to.address)).amount, 250_000n);
  assert.equal((await getMint(connection, mint)).supply, 1_000_000n);
  assert.equal((await connection.getTokenSupply(mint)).value.amount, '1000000');
  const owned = await connection.getParsedTokenAccountsByOwner(alice.publicKey, { mint });
  assert.equal(owned.value[0].account.data.parsed.info.tokenAmount.uiAmountString, '0.75');
});

async function writeBuffer(program) {
  const buffer = Keypair.generate();
  const space = BUFFER_HEAD + program.length;
  await send([
    SystemProgram.createAccount({
      fromPubkey: payer.publicKey,
      newAccountPubkey: buffer.publicKey,
      lamports: await connection.getMinimumBalanceForRentExemption(space),
      space,
      programId: new PublicKey(LOADER),
    }),
    instruction(loader.initializeBuffer(buffer.publicKey, payer.publicKey)),
  ], buffer);
  await Promise.all(chunks(program).map(({ offset, bytes }) =>
    send([instruction(loader.write(buffer.publicKey, payer.publicKey, offset, bytes))])));
  return buffer.publicKey;
}

async function nextSlot() {
  const slot = await connection.getSlot('processed');
  await eventually('the next slot', async () => (await connection.getSlot('processed')) > slot);
}

test('web3.js: a program is deployed, invoked and upgraded', async () => {
  const program = Keypair.generate();
  const [programData] = PublicKey.findProgramAddressSync([program.publicKey.toBuffer()], new PublicKey(LOADER));
  const authority = payer.publicKey;
  const buffer = await writeBuffer(elf.memo);
  await send([
    SystemProgram.createAccount({
      fromPubkey: payer.publicKey,
      newAccountPubkey: program.publicKey,
      lamports: await connection.getMinimumBalanceForRentExemption(PROGRAM_SIZE),
      space: PROGRAM_SIZE,
      programId: new PublicKey(LOADER),
    }),
    instruction(loader.deploy(payer.publicKey, programData, program.publicKey, buffer, authority, elf.token.length)),
  ], program);
  await nextSlot();

  const memo = { program: program.publicKey, accounts: [], data: Buffer.from('a swap keeps this') };
  const signature = await send([instruction(memo)]);
  const found = await connection.getTransaction(signature, { maxSupportedTransactionVersion: 0 });
  assert.ok(found.meta.logMessages.some((line) => line.includes('a swap keeps this')), found.meta.logMessages.join('\n'));
  assert.ok((await connection.getAccountInfo(program.publicKey)).executable);

  const second = await writeBuffer(elf.token);
  await send([instruction(loader.upgrade(programData, program.publicKey, second, payer.publicKey, authority))]);
  await nextSlot();
  // The token program knows no instruction that begins with 'a'.
  await assert.rejects(send([instruction(memo)]), SendTransactionError);
});

test('web3.js: every kind of subscription is told', async () => {
  const watched = Keypair.generate().publicKey;
  const [account, logs, program, slot, root] = [signal(), signal(), signal(), signal(), signal()];
  const ids = [
    connection.onAccountChange(watched, (info) => account.settle(info.lamports), { commitment: 'confirmed' }),
    connection.onLogs(payer.publicKey, (entry) => logs.settle(entry), 'confirmed'),
    connection.onProgramAccountChange(SystemProgram.programId, (info) => {
      if (info.accountId.equals(watched)) program.settle(info.accountInfo.lamports);
    }, { commitment: 'confirmed' }),
    connection.onSlotChange((info) => slot.settle(info.slot)),
    connection.onRootChange((number) => root.settle(number)),
  ];
  // web3.js subscribes in the background, and tells nobody when it has.
  await within(15000, 'a slot', slot.promise);
  await new Promise((resolve) => setTimeout(resolve, 300));
  const signature = await send([
    SystemProgram.transfer({ fromPubkey: payer.publicKey, toPubkey: watched, lamports: LAMPORTS_PER_SOL }),
  ]);
  assert.equal(await within(15000, 'accountSubscribe', account.promise), LAMPORTS_PER_SOL);
  assert.equal((await within(15000, 'logsSubscribe', logs.promise)).signature, signature);
  assert.equal(await within(15000, 'programSubscribe', program.promise), LAMPORTS_PER_SOL);
  assert.ok(await within(30000, 'rootSubscribe', root.promise) >= 0);
  const remove = [
    'removeAccountChangeListener', 'removeOnLogsListener', 'removeProgramAccountChangeListener',
    'removeSlotChangeListener', 'removeRootChangeListener',
  ];
  await Promise.all(remove.map((name, index) => connection[name](ids[index])));
});

test('web3.js: a swap keeps history and subscriptions, and closes no socket', async () => {
  const watched = Keypair.generate().publicKey;
  const before = await airdrop(watched, 1);
  let closed = 0;
  connection._rpcWebSocket.on('close', () => { closed += 1; });
  const slots = [];
  const lamports = [];
  const slotId = connection.onSlotChange((info) => slots.push(info.slot));
  const accountId = connection.onAccountChange(watched, (info) => lamports.push(info.lamports), { commitment: 'processed' });
  await eventually('slots', () => slots.length > 1);
  const swap = await osvm('swap', 'rpc-local', '--watch', '1s');
  assert.equal(swap.code, 0, swap.stderr + swap.stdout);
  const told = slots.length;
  await eventually('slots after the swap', () => slots.length > told + 1);
  await send([SystemProgram.transfer({ fromPubkey: payer.publicKey, toPubkey: watched, lamports: LAMPORTS_PER_SOL })]);
  await eventually('the account after the swap', () => lamports.includes(2 * LAMPORTS_PER_SOL));
  assert.deepEqual(slots, [...new Set(slots)].sort((a, b) => a - b), 'slots grow and none is told twice');
  assert.equal((await connection.getSignatureStatus(before, { searchTransactionHistory: true })).value.err, null);
  assert.equal(closed, 0);
  await Promise.all([connection.removeSlotChangeListener(slotId), connection.removeAccountChangeListener(accountId)]);
});
