//! Sends transactions and waits until the cluster has confirmed them: many at once, each again if it went astray.

use std::{collections::HashMap, time::Duration};

use osvm_solana::{Client, Error as RpcError};
use solana_hash::Hash;
use solana_instruction::Instruction;
use solana_keypair::Keypair;
use solana_message::Message;
use solana_signature::Signature;
use solana_transaction::Transaction;
use tokio::{sync::Semaphore, task::JoinSet, time::Instant};

use std::sync::Arc;

use crate::failure::Failure;

/// The commitment that counts as done.
pub(crate) const COMMITMENT: &str = "confirmed";
/// The longest transaction that the network takes, in bytes.
pub(crate) const LONGEST_TRANSACTION: usize = 1232;
/// Transactions on their way to the node at one time.
const WINDOW: usize = 32;
/// Signatures in one question (a node takes 256).
const ASKED_AT_ONCE: usize = 256;
/// Between two looks at what was confirmed.
const LOOK: Duration = Duration::from_millis(100);
/// After this long without a sign of it a transaction is sent again, as it is.
const SEND_AGAIN: Duration = Duration::from_secs(3);
/// Blockhashes that may run out before the rest is given up.
const MOST_BLOCKHASHES: u32 = 5;
/// Tries to hand a transaction to a node that does not answer or is busy.
const SEND_TRIES: u32 = 5;
/// Before the second of those tries; it doubles.
const SEND_PAUSE: Duration = Duration::from_millis(200);

/// Who pays and signs, and where to.
#[derive(Clone)]
pub(crate) struct Sender {
    pub(crate) client: Arc<Client>,
    pub(crate) payer: Arc<Keypair>,
}

/// A transaction that is on its way.
struct Sent {
    wire: Vec<u8>,
    sent_at: Instant,
}

impl Sender {
    /// Sends one transaction, after the node has simulated it, and waits until it is confirmed. The signature and the slot.
    pub(crate) async fn one(
        &self,
        instructions: &[Instruction],
        signers: &[&Keypair],
    ) -> Result<(String, u64), Failure> {
        for _ in 0..MOST_BLOCKHASHES {
            let latest = self.client.latest_blockhash(COMMITMENT).await?;
            let (signature, wire) = self.signed(instructions, signers, &latest.blockhash)?;
            send(&self.client, &wire, false).await?;
            let mut sent = HashMap::from([(signature.clone(), Sent { wire, sent_at: Instant::now() })]);
            let mut slot = 0;
            self.settle(&mut sent, latest.last_valid_block_height, &mut |_, at| slot = at).await?;
            if sent.is_empty() {
                return Ok((signature, slot));
            }
        }
        Err(Failure::new(format!(
            "the transaction was not confirmed before {MOST_BLOCKHASHES} blockhashes had run out"
        )))
    }

    /// Sends one transaction an element of `all`, in any order, until each is confirmed. `done` is told how many are.
    pub(crate) async fn many(
        &self,
        all: Vec<Instruction>,
        signers: &[&Keypair],
        done: &mut dyn FnMut(usize),
    ) -> Result<(), Failure> {
        let total = all.len();
        let mut left: Vec<Instruction> = all;
        for _ in 0..MOST_BLOCKHASHES {
            let latest = self.client.latest_blockhash(COMMITMENT).await?;
            let mut by_signature = HashMap::with_capacity(left.len());
            let mut sent = HashMap::with_capacity(left.len());
            for instruction in left.drain(..) {
                let (signature, wire) = self.signed(std::slice::from_ref(&instruction), signers, &latest.blockhash)?;
                sent.insert(signature.clone(), Sent { wire, sent_at: Instant::now() });
                by_signature.insert(signature, instruction);
            }
            self.send_window(&sent).await?;
            self.settle(&mut sent, latest.last_valid_block_height, &mut |signature, _| {
                by_signature.remove(signature);
                done(total - by_signature.len());
            })
            .await?;
            left.extend(by_signature.into_values());
            if left.is_empty() {
                return Ok(());
            }
        }
        Err(Failure::new(format!(
            "{} of {total} transactions were not confirmed before {MOST_BLOCKHASHES} blockhashes had run out",
            left.len()
        )))
    }

    /// The bytes that a transaction with `instruction` and these signers has.
    pub(crate) fn length(&self, instruction: &Instruction, signers: &[&Keypair]) -> Result<usize, Failure> {
        let any = Hash::default().to_string();
        Ok(self.signed(std::slice::from_ref(instruction), signers, &any)?.1.len())
    }

    fn signed(
        &self,
        instructions: &[Instruction],
        signers: &[&Keypair],
        blockhash: &str,
    ) -> Result<(String, Vec<u8>), Failure> {
        let blockhash: Hash = blockhash
            .parse()
            .map_err(|_| Failure::new(format!("getLatestBlockhash gave {blockhash:?}, which is no hash")))?;
        let message = Message::new(instructions, Some(&solana_signer::Signer::pubkey(&*self.payer)));
        let mut transaction = Transaction::new_unsigned(message);
        // A key that pays and also decides signs once.
        let mut pairs: Vec<&Keypair> = vec![&self.payer];
        for signer in signers {
            if pairs.iter().all(|pair| pair.secret_bytes() != signer.secret_bytes()) {
                pairs.push(signer);
            }
        }
        transaction.try_sign(&pairs, blockhash).map_err(|error| Failure::new("cannot sign").because(&error))?;
        let signatures = &transaction.signatures;
        let first = signatures.first().map(Signature::to_string).unwrap_or_default();
        // The count of signatures is one byte below 128; there are at most three here.
        let mut wire = vec![signatures.len() as u8];
        for signature in signatures {
            wire.extend_from_slice(signature.as_ref());
        }
        wire.extend(transaction.message_data());
        Ok((first, wire))
    }

    /// Hands all to the node, [`WINDOW`] at a time.
    async fn send_window(&self, all: &HashMap<String, Sent>) -> Result<(), Failure> {
        let places = Arc::new(Semaphore::new(WINDOW));
        let mut tasks = JoinSet::new();
        for sent in all.values() {
            let (client, wire, places) = (Arc::clone(&self.client), sent.wire.clone(), Arc::clone(&places));
            tasks.spawn(async move {
                // Never closed while tasks run.
                let _place = places.acquire().await;
                send(&client, &wire, true).await
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.map_err(|error| Failure::new("a send was lost").because(&error))??;
        }
        Ok(())
    }

    /// Waits until each transaction in `sent` is confirmed (told to `confirmed`, and taken out) or its blockhash has run out.
    async fn settle(
        &self,
        sent: &mut HashMap<String, Sent>,
        last_valid: u64,
        confirmed: &mut dyn FnMut(&str, u64),
    ) -> Result<(), Failure> {
        loop {
            // The height first: what is not confirmed after it had passed never will be.
            let height = self.client.block_height(COMMITMENT).await?;
            let signatures: Vec<String> = sent.keys().cloned().collect();
            for asked in signatures.chunks(ASKED_AT_ONCE) {
                let statuses = self.client.signature_statuses(asked).await?;
                for (signature, status) in asked.iter().zip(statuses) {
                    let Some(status) = status else { continue };
                    if let Some(error) = status.err {
                        return Err(Failure {
                            causes: vec![error.to_string()],
                            ..Failure::new(format!("transaction {signature} failed"))
                        });
                    }
                    if status.is_confirmed() {
                        sent.remove(signature);
                        confirmed(signature, status.slot);
                    }
                }
            }
            if sent.is_empty() || height > last_valid {
                return Ok(());
            }
            for one in sent.values_mut().filter(|one| one.sent_at.elapsed() >= SEND_AGAIN) {
                one.sent_at = Instant::now();
                send(&self.client, &one.wire, true).await?;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Hands a transaction to the node; sending it twice is the same as once.
async fn send(client: &Client, wire: &[u8], skip_preflight: bool) -> Result<(), RpcError> {
    let mut pause = SEND_PAUSE;
    for _ in 1..SEND_TRIES {
        match client.send_transaction(wire, skip_preflight).await {
            Err(error) if error.is_passing() => tokio::time::sleep(pause).await,
            other => return other.map(drop),
        }
        pause *= 2;
    }
    client.send_transaction(wire, skip_preflight).await.map(drop)
}
