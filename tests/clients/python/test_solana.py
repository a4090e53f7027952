"""solana-py with solders, against `osvm rpc local` through the gateway."""

import asyncio
import os
import struct
import subprocess
from pathlib import Path

import pytest
import pytest_asyncio
from solana.rpc.async_api import AsyncClient
from solana.rpc.commitment import Confirmed, Processed
from solana.rpc.core import RPCException
from solana.rpc.models import TxOpts
from solana.rpc.websocket_api import connect
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.rpc.responses import (
    AccountNotification,
    LogsNotification,
    SignatureNotification,
    SlotNotification,
    SubscriptionResult,
)
from solders.system_program import CreateAccountParams, TransferParams, create_account, transfer
from solders.transaction import VersionedTransaction
from spl.token import instructions as token
from spl.token.constants import MINT_LEN, TOKEN_PROGRAM_ID
from spl.token.models import InitializeMint2Params, MintToParams
from spl.token.models import TransferParams as TokenTransferParams

RPC = os.environ["OSVM_RPC_URL"]
WS = os.environ["OSVM_WS_URL"]
ELF = Path(os.environ["OSVM_ELF_DIR"]) / "spl_memo-4.0.0.so"

SOL = 1_000_000_000
LOADER = Pubkey.from_string("BPFLoaderUpgradeab1e11111111111111111111111")
SYSTEM = Pubkey.from_string("11111111111111111111111111111111")
RENT = Pubkey.from_string("SysvarRent111111111111111111111111111111111")
CLOCK = Pubkey.from_string("SysvarC1ock11111111111111111111111111111111")
# What fits beside the rest of a version 0 transaction.
CHUNK = 1000
PATIENCE = 20

pytestmark = pytest.mark.asyncio


class Node:
    """A client and a payer with lamports."""

    def __init__(self, client):
        self.client = client
        self.payer = Keypair()

    async def airdrop(self, to, lamports):
        signature = (await self.client.request_airdrop(to, lamports, Confirmed)).value
        await self.client.confirm_transaction(signature, Confirmed, sleep_seconds=0.1)
        return signature

    async def send(self, *instructions, signers=()):
        latest = (await self.client.get_latest_blockhash(Confirmed)).value
        message = MessageV0.try_compile(self.payer.pubkey(), list(instructions), [], latest.blockhash)
        transaction = VersionedTransaction(message, [self.payer, *signers])
        options = TxOpts(preflight_commitment=Processed)
        signature = (await self.client.send_transaction(transaction, opts=options)).value
        await self.client.confirm_transaction(signature, Confirmed, sleep_seconds=0.05)
        return signature

    async def balance(self, of):
        return (await self.client.get_balance(of, Confirmed)).value

    async def create(self, size, owner):
        """An instruction that makes an account, and the account's key."""
        account = Keypair()
        rent = (await self.client.get_minimum_balance_for_rent_exemption(size)).value
        parameters = CreateAccountParams(
            from_pubkey=self.payer.pubkey(), to_pubkey=account.pubkey(), lamports=rent, space=size, owner=owner
        )
        return create_account(parameters), account

    def pay(self, to, lamports):
        return transfer(TransferParams(from_pubkey=self.payer.pubkey(), to_pubkey=to, lamports=lamports))


@pytest_asyncio.fixture
async def node():
    async with AsyncClient(RPC, commitment=Confirmed) as client:
        node = Node(client)
        await node.airdrop(node.payer.pubkey(), 50 * SOL)
        yield node


async def hear(socket, kind):
    """The next notification of a kind."""

    async def next_one():
        while True:
            for message in await socket.recv():
                if isinstance(message, kind):
                    return message

    return await asyncio.wait_for(next_one(), PATIENCE)


async def test_an_airdrop_arrives(node):
    to = Keypair().pubkey()
    signature = await node.airdrop(to, 2 * SOL)
    assert await node.balance(to) == 2 * SOL
    history = (await node.client.get_signatures_for_address(to, commitment=Confirmed)).value
    assert [entry.signature for entry in history] == [signature]


async def test_a_transfer_moves_lamports_and_costs_its_fee(node):
    to = Keypair().pubkey()
    before = await node.balance(node.payer.pubkey())
    signature = await node.send(node.pay(to, 3 * SOL))
    assert await node.balance(to) == 3 * SOL
    assert await node.balance(node.payer.pubkey()) == before - 3 * SOL - 5000
    found = (await node.client.get_transaction(signature, "json", Confirmed, max_supported_transaction_version=0)).value
    assert found.transaction.meta.err is None
    assert found.transaction.meta.fee == 5000


async def test_a_transfer_of_what_is_not_there_is_refused(node):
    with pytest.raises(RPCException) as refused:
        await node.send(node.pay(Keypair().pubkey(), 1000 * SOL))
    assert "custom program error: 0x1" in str(refused.value)


async def test_tokens_are_minted_and_transferred(node):
    alice, bob = Keypair(), Keypair()
    make, mint = await node.create(MINT_LEN, TOKEN_PROGRAM_ID)
    authority = node.payer.pubkey()
    mint_parameters = InitializeMint2Params(
        decimals=6, program_id=TOKEN_PROGRAM_ID, mint=mint.pubkey(), mint_authority=authority
    )
    await node.send(make, token.initialize_mint2(mint_parameters), signers=[mint])
    source, target = (token.get_associated_token_address(owner.pubkey(), mint.pubkey()) for owner in (alice, bob))
    await node.send(
        token.create_associated_token_account(authority, alice.pubkey(), mint.pubkey()),
        token.create_associated_token_account(authority, bob.pubkey(), mint.pubkey()),
        token.mint_to(
            MintToParams(
                program_id=TOKEN_PROGRAM_ID, mint=mint.pubkey(), dest=source, mint_authority=authority, amount=1_000_000
            )
        ),
        token.transfer(
            TokenTransferParams(
                program_id=TOKEN_PROGRAM_ID, source=source, dest=target, owner=alice.pubkey(), amount=250_000
            )
        ),
        signers=[alice],
    )
    balance = (await node.client.get_token_account_balance(target, Confirmed)).value
    assert (balance.amount, balance.ui_amount_string) == ("250000", "0.25")
    assert (await node.client.get_token_supply(mint.pubkey(), Confirmed)).value.amount == "1000000"


async def test_a_program_is_deployed_and_invoked(node):
    elf = ELF.read_bytes()
    authority = node.payer.pubkey()
    make_buffer, buffer = await node.create(37 + len(elf), LOADER)
    initialize = Instruction(
        LOADER,
        struct.pack("<I", 0),
        [AccountMeta(buffer.pubkey(), False, True), AccountMeta(authority, False, False)],
    )
    await node.send(make_buffer, initialize, signers=[buffer])
    for offset in range(0, len(elf), CHUNK):
        chunk = elf[offset : offset + CHUNK]
        await node.send(
            Instruction(
                LOADER,
                struct.pack("<IIQ", 1, offset, len(chunk)) + chunk,
                [AccountMeta(buffer.pubkey(), False, True), AccountMeta(authority, True, False)],
            )
        )
    make_program, program = await node.create(36, LOADER)
    data, _ = Pubkey.find_program_address([bytes(program.pubkey())], LOADER)
    deploy = Instruction(
        LOADER,
        struct.pack("<IQ", 2, len(elf)),
        [
            AccountMeta(authority, True, True),
            AccountMeta(data, False, True),
            AccountMeta(program.pubkey(), False, True),
            AccountMeta(buffer.pubkey(), False, True),
            AccountMeta(RENT, False, False),
            AccountMeta(CLOCK, False, False),
            AccountMeta(SYSTEM, False, False),
            AccountMeta(authority, True, False),
        ],
    )
    await node.send(make_program, deploy, signers=[program])
    async with connect(WS) as socket:
        # A program runs from the slot after its deployment on.
        await socket.slot_subscribe()
        await hear(socket, SlotNotification)
        await hear(socket, SlotNotification)
    signature = await node.send(Instruction(program.pubkey(), b"from solana-py", []))
    found = (await node.client.get_transaction(signature, "json", Confirmed, max_supported_transaction_version=0)).value
    assert any("from solana-py" in line for line in found.transaction.meta.log_messages)


async def test_subscriptions_are_told_also_after_a_swap(node):
    watched = Keypair().pubkey()
    async with connect(WS) as socket:
        await socket.account_subscribe(watched, Confirmed, "base64")
        await hear(socket, SubscriptionResult)
        await socket.logs_subscribe(commitment=Confirmed)
        await hear(socket, SubscriptionResult)
        await node.send(node.pay(watched, SOL))
        assert (await hear(socket, AccountNotification)).result.value.lamports == SOL

        osvm = [os.environ["OSVM_BIN"], "swap", "rpc-local", "--watch", "1s", "--output", "json"]
        done = await asyncio.to_thread(subprocess.run, osvm, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

        sent = await node.send(node.pay(watched, SOL))
        await socket.signature_subscribe(sent, Confirmed)
        told = {}
        while len(told) < 3:
            message = await hear(socket, (AccountNotification, LogsNotification, SignatureNotification))
            if isinstance(message, LogsNotification) and message.result.value.signature != sent:
                continue
            told[type(message)] = message
        assert told[AccountNotification].result.value.lamports == 2 * SOL
        assert told[SignatureNotification].result.value.err is None
