//! Bounds on a file's shape before it is parsed: syn recurses, and a file must not choose how deep.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Groups in groups.
const DEEPEST: usize = 120;
/// Tokens without a comma, a semicolon or a block between them; each may nest an expression by one.
const LONGEST_RUN: usize = 4_000;

/// What is too deep or too long, with its line.
pub(super) fn check(tokens: TokenStream) -> Result<(), (String, u32)> {
    let mut stack = vec![(tokens.into_iter(), 0_usize)];
    while let Some((iter, run)) = stack.last_mut() {
        let Some(token) = iter.next() else {
            stack.pop();
            continue;
        };
        *run += 1;
        if *run > LONGEST_RUN {
            let line = token.span().start().line;
            return Err((format!("an expression of more than {LONGEST_RUN} tokens"), line as u32));
        }
        match token {
            TokenTree::Punct(punct) if matches!(punct.as_char(), ',' | ';') => *run = 0,
            TokenTree::Group(group) => {
                // `else if` nests without an end, so its blocks do not end a run.
                if group.delimiter() == Delimiter::Brace {
                    let mut ahead = iter.clone();
                    let goes_on =
                        ahead.next().is_some_and(|next| matches!(&next, TokenTree::Ident(word) if *word == "else"));
                    if !goes_on {
                        *run = 0;
                    }
                }
                if stack.len() >= DEEPEST {
                    let line = group.span_open().start().line;
                    return Err((format!("more than {DEEPEST} brackets inside one another"), line as u32));
                }
                stack.push((group.stream().into_iter(), 0));
            }
            _ => {}
        }
    }
    Ok(())
}
