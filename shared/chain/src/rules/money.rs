//! Moving money between accounts. Every path that moves any goes through here.

use super::{Call, TxError};
use crate::{
    action::Transfer,
    keys,
    record::{Account, Coins, Supply},
    state::{Overlay, StateError},
};
use nesa_primitives::{Address, Amount, Denom};

/// The account of `address`, an empty one if it was never touched.
pub(super) fn account(overlay: &Overlay<'_>, address: &Address) -> Result<Account, StateError> {
    Ok(overlay.find(&keys::account(address))?.unwrap_or_default())
}

pub(super) fn put_account(
    overlay: &mut Overlay<'_>,
    address: &Address,
    account: &Account,
) -> Result<(), StateError> {
    overlay.store(keys::account(address), account)
}

/// Coins of one denomination in an account; only NES carries the faucet's mark.
fn coins(account: &Account, denom: Denom) -> Coins {
    let faucet = if denom == Denom::NES { account.faucet } else { Amount::ZERO };
    Coins { amount: account.balance(denom), faucet }
}

fn set_coins(account: &mut Account, denom: Denom, coins: Coins) {
    account.set_balance(denom, coins.amount);
    if denom == Denom::NES {
        account.faucet = coins.faucet;
    }
}

/// Takes `amount` from an account, marked coins first.
pub(super) fn debit(
    overlay: &mut Overlay<'_>,
    from: &Address,
    denom: Denom,
    amount: Amount,
) -> Result<Coins, TxError> {
    debit_with(overlay, from, denom, amount, Coins::take)
}

/// Takes `amount` from an account, clean coins first: for bonds.
pub(super) fn debit_clean(
    overlay: &mut Overlay<'_>,
    from: &Address,
    denom: Denom,
    amount: Amount,
) -> Result<Coins, TxError> {
    debit_with(overlay, from, denom, amount, Coins::take_clean)
}

fn debit_with(
    overlay: &mut Overlay<'_>,
    from: &Address,
    denom: Denom,
    amount: Amount,
    take: fn(&mut Coins, Amount) -> Option<Coins>,
) -> Result<Coins, TxError> {
    let mut account = account(overlay, from)?;
    let mut held = coins(&account, denom);
    let taken = take(&mut held, amount).ok_or(TxError::Funds {
        account: *from,
        denom,
        got: held.amount,
        expected: amount,
    })?;
    set_coins(&mut account, denom, held);
    put_account(overlay, from, &account)?;
    Ok(taken)
}

/// Gives coins to an account.
pub(super) fn credit(
    overlay: &mut Overlay<'_>,
    to: &Address,
    denom: Denom,
    coins_in: Coins,
) -> Result<(), TxError> {
    if coins_in.amount.is_zero() {
        return Ok(());
    }
    let mut account = account(overlay, to)?;
    let mut held = coins(&account, denom);
    held.put(coins_in).ok_or(TxError::Overflow { what: "a balance" })?;
    set_coins(&mut account, denom, held);
    put_account(overlay, to, &account)?;
    Ok(())
}

/// Adds to the treasury's and the burned sum of a denomination. What goes there loses its mark.
pub(super) fn absorb(
    overlay: &mut Overlay<'_>,
    denom: Denom,
    treasury: Amount,
    burned: Amount,
) -> Result<(), TxError> {
    if treasury.is_zero() && burned.is_zero() {
        return Ok(());
    }
    let mut supply: Supply = overlay.load("supply", &keys::supply())?;
    let entry = supply.get_mut(denom).ok_or(TxError::UnknownDenom { got: denom })?;
    let overflow = TxError::Overflow { what: "the supply" };
    entry.treasury = entry.treasury.checked_add(treasury).ok_or(overflow.clone())?;
    entry.burned = entry.burned.checked_add(burned).ok_or(overflow)?;
    overlay.store(keys::supply(), &supply)?;
    Ok(())
}

/// Refuses a denomination that the chain does not know.
pub(super) fn check_denom(overlay: &Overlay<'_>, denom: Denom) -> Result<(), TxError> {
    let supply: Supply = overlay.load("supply", &keys::supply())?;
    supply.get(denom).map(|_| ()).ok_or(TxError::UnknownDenom { got: denom })
}

/// `Transfer`.
pub(super) fn transfer(
    overlay: &mut Overlay<'_>,
    call: &Call<'_>,
    transfer: &Transfer,
) -> Result<(), TxError> {
    check_denom(overlay, transfer.denom)?;
    let coins = debit(overlay, &call.sender, transfer.denom, transfer.amount)?;
    credit(overlay, &transfer.to, transfer.denom, coins)
}
