// @solana/kit, with the program clients made for it.

import assert from 'node:assert/strict';
import { before, test } from 'node:test';

import { getCreateAccountInstruction, getTransferSolInstruction } from '@solana-program/system';
import {
  TOKEN_PROGRAM_ADDRESS, fetchMint, fetchToken, findAssociatedTokenPda, getCreateAssociatedTokenInstructionAsync,
  getInitializeMint2Instruction, getMintSize, getMintToInstruction, getTransferInstruction,
} from '@solana-program/token';
import {
  AccountRole, address, airdropFactory, appendTransactionMessageInstructions, createSolanaRpc,
  createSolanaRpcSubscriptions, createTransactionMessage, generateKeyPairSigner, getAddressEncoder, getProgramDerivedAddress,
  getSignatureFromTransaction, lamports, pipe, sendAndConfirmTransactionFactory, setTransactionMessageFeePayerSigner,
  setTransactionMessageLifetimeUsingBlockhash, signTransactionMessageWithSigners,
} from '@solana/kit';

import { BUFFER_HEAD, LOADER, PROGRAM_SIZE, chunks, elf, eventually, loader, osvm, rpcUrl, within, wsUrl } from './helpers.mjs';

const SOL = 1_000_000_000n;
const rpc = createSolanaRpc(rpcUrl);
const rpcSubscriptions = createSolanaRpcSubscriptions(wsUrl);
const airdrop = airdropFactory({ rpc, rpcSubscriptions });
const sendAndConfirm = sendAndConfirmTransactionFactory({ rpc, rpcSubscriptions });
let payer;

async function send(...instructions) {
  const { value: latest } = await rpc.getLatestBlockhash().send();
  const message = pipe(
    createTransactionMessage({ version: 0 }),
    (tx) => setTransactionMessageFeePayerSigner(payer, tx),
    (tx) => setTransactionMessageLifetimeUsingBlockhash(latest, tx),
    (tx) => appendTransactionMessageInstructions(instructions, tx),
  );
  const signed = await signTransactionMessageWithSigners(message);
  await sendAndConfirm(signed, { commitment: 'confirmed' });
  return getSignatureFromTransaction(signed);
}

const balance = async (of) => (await rpc.getBalance(of, { commitment: 'confirmed' }).send()).value;
const give = (to, amount) => airdrop({ recipientAddress: to, lamports: lamports(amount), commitment: 'confirmed' });

/** Who has to sign is known by address; kit wants the signer itself. */
function instruction({ program, accounts, data }) {
  return {
    programAddress: address(program),
    accounts: accounts.map(({ address: key, writable, signer }) => {
      const roles = [[AccountRole.READONLY, AccountRole.READONLY_SIGNER], [AccountRole.WRITABLE, AccountRole.WRITABLE_SIGNER]];
      const account = { address: address(key), role: roles[Number(writable)][Number(signer)] };
      return signer ? { ...account, signer: payer } : account;
    }),
    data: new Uint8Array(data),
  };
}

before(async () => {
  payer = await generateKeyPairSigner();
  await give(payer.address, 100n * SOL);
});

test('kit: an airdrop arrives', async () => {
  const to = await generateKeyPairSigner();
  await give(to.address, 2n * SOL);
  assert.equal(await balance(to.address), 2n * SOL);
});

test('kit: a transfer moves lamports', async () => {
  const to = await generateKeyPairSigner();
  const signature = await send(getTransferSolInstruction({ source: payer, destination: to.address, amount: 3n * SOL }));
  assert.equal(await balance(to.address), 3n * SOL);
  const found = await rpc.getTransaction(signature, { maxSupportedTransactionVersion: 0, encoding: 'json', commitment: 'confirmed' }).send();
  assert.equal(found.meta.fee, 5000n);
  assert.equal(found.version, 0);
});

test('kit: tokens are minted and transferred', async () => {
  const [mint, alice, bob] = await Promise.all([generateKeyPairSigner(), generateKeyPairSigner(), generateKeyPairSigner()]);
  const space = BigInt(getMintSize());
  const tokenProgram = TOKEN_PROGRAM_ADDRESS;
  const account = async (owner) => (await findAssociatedTokenPda({ owner: owner.address, mint: mint.address, tokenProgram }))[0];
  const [from, to] = await Promise.all([account(alice), account(bob)]);
  await send(
    getCreateAccountInstruction({
      payer, newAccount: mint, space, programAddress: tokenProgram,
      lamports: await rpc.getMinimumBalanceForRentExemption(space).send(),
    }),
    getInitializeMint2Instruction({ mint: mint.address, decimals: 6, mintAuthority: payer.address }),
  );
  await send(
    await getCreateAssociatedTokenInstructionAsync({ payer, owner: alice.address, mint: mint.address }),
    await getCreateAssociatedTokenInstructionAsync({ payer, owner: bob.address, mint: mint.address }),
    getMintToInstruction({ mint: mint.address, token: from, mintAuthority: payer, amount: 1_000_000n }),
    getTransferInstruction({ source: from, destination: to, authority: alice, amount: 250_000n }),
  );
  const commitment = { commitment: 'confirmed' };
  assert.equal((await fetchToken(rpc, to, commitment)).data.amount, 250_000n);
  assert.equal((await fetchMint(rpc, mint.address, commitment)).data.supply, 1_000_000n);
});

async function writeBuffer(program) {
  const buffer = await generateKeyPairSigner();
  const space = BigInt(BUFFER_HEAD + program.length);
  await send(
    getCreateAccountInstruction({
      payer, newAccount: buffer, space, programAddress: address(LOADER),
      lamports: await rpc.getMinimumBalanceForRentExemption(space).send(),
    }),
    instruction(loader.initializeBuffer(buffer.address, payer.address)),
  );
  await Promise.all(chunks(program).map(({ offset, bytes }) =>
    send(instruction(loader.write(buffer.address, payer.address, offset, bytes)))));
  return buffer.address;
}

test('kit: a program is deployed and invoked', async () => {
  const program = await generateKeyPairSigner();
  const [programData] = await getProgramDerivedAddress({
    programAddress: address(LOADER), seeds: [getAddressEncoder().encode(program.address)],
  });
  const buffer = await writeBuffer(elf.memo);
  const space = BigInt(PROGRAM_SIZE);
  await send(
    getCreateAccountInstruction({
      payer, newAccount: program, space, programAddress: address(LOADER),
      lamports: await rpc.getMinimumBalanceForRentExemption(space).send(),
    }),
    instruction(loader.deploy(payer.address, programData, program.address, buffer, payer.address, elf.memo.length)),
  );
  const slot = await rpc.getSlot({ commitment: 'processed' }).send();
  await eventually('the next slot', async () => (await rpc.getSlot({ commitment: 'processed' }).send()) > slot);
  const signature = await send({ programAddress: program.address, accounts: [], data: new TextEncoder().encode('from kit') });
  const found = await rpc.getTransaction(signature, { maxSupportedTransactionVersion: 0, encoding: 'json', commitment: 'confirmed' }).send();
  assert.ok(found.meta.logMessages.some((line) => line.includes('from kit')), found.meta.logMessages.join('\n'));
});

test('kit: subscriptions are told, also after a swap', async () => {
  const watched = await generateKeyPairSigner();
  const abort = new AbortController();
  const accounts = await rpcSubscriptions
    .accountNotifications(watched.address, { commitment: 'confirmed', encoding: 'base64' })
    .subscribe({ abortSignal: abort.signal });
  const told = accounts[Symbol.asyncIterator]();
  const next = async () => (await within(20000, 'accountNotifications', told.next())).value.value.lamports;
  const slots = (await rpcSubscriptions.slotNotifications().subscribe({ abortSignal: abort.signal }))[Symbol.asyncIterator]();
  const transfer = () => send(getTransferSolInstruction({ source: payer, destination: watched.address, amount: SOL }));
  // Kit drops what comes before the first call of next().
  const first = next();
  await transfer();
  assert.equal(await first, SOL);
  const before = (await within(20000, 'slotNotifications', slots.next())).value.slot;
  const swap = await osvm('swap', 'rpc-local', '--watch', '1s');
  assert.equal(swap.code, 0, swap.stderr + swap.stdout);
  await transfer();
  assert.equal(await next(), 2n * SOL);
  assert.ok((await within(20000, 'slotNotifications', slots.next())).value.slot > before);
  abort.abort();
});
