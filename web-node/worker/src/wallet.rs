//! The wallet's commands. The key never leaves this module.

use std::rc::Rc;

use nesa_chain::{
    action::{Action, Transfer},
    keys,
    record::Supply,
};
use nesa_light::wallet::{Wallet, WalletStore};
use nesa_messages::{
    Activity, ActivityKind, Balance, FromWorker, Problem, Unes, WalletCommand, WalletState,
};
use nesa_platform::time;
use nesa_primitives::{Address, Amount, Denom, Hash};

use crate::{
    app::App,
    problem::{Shown as _, not_ready},
};

const ACTIVITY: &str = "activity";
/// Lines of activity kept.
const ACTIVITY_KEPT: usize = 200;

impl App {
    fn wallets(&self) -> WalletStore {
        WalletStore::new(self.store())
    }

    /// Reads what is known of the key and opens it when no passphrase guards it.
    pub(crate) async fn load_wallet(&self) {
        let about = self.wallets().about().await;
        let mut view = self.wallet_view.borrow().clone();
        match about {
            Ok(Some(about)) => {
                view.address = Some(about.address.to_string());
                view.passphrase = about.passphrase;
                view.backed_up = about.backed_up;
                view.state = WalletState::Locked;
                if !about.passphrase {
                    match self.wallets().open(None).await {
                        Ok(wallet) => {
                            self.wallet.replace(Some(wallet));
                            view.state = WalletState::Ready;
                        }
                        Err(error) => self.port.fail(None, None, error.problem()),
                    }
                }
            }
            Ok(None) => view.state = WalletState::Absent,
            Err(error) => self.port.fail(None, None, error.problem()),
        }
        if let Ok(Some(bytes)) = self.store().get_secret(ACTIVITY, "list").await
            && let Ok(list) = serde_json::from_slice(&bytes)
        {
            self.activity.replace(list);
        }
        self.wallet_view.replace(view);
        self.send_wallet();
        self.send_status();
    }

    pub(crate) fn send_wallet(&self) {
        let mut wallet = self.wallet_view.borrow().clone();
        wallet.activity = self.activity.borrow().iter().cloned().collect();
        self.port.send(&FromWorker::Wallet { wallet });
    }

    pub(crate) async fn wallet_command(self: Rc<Self>, command: WalletCommand) {
        if let Err(problem) = self.clone().obey(command).await {
            self.port.fail(None, None, problem);
            self.send_wallet();
        }
    }

    async fn obey(self: Rc<Self>, command: WalletCommand) -> Result<(), Problem> {
        match command {
            WalletCommand::Create { passphrase } => {
                if self.wallets().about().await.map_err(|e| e.problem())?.is_some() {
                    return Err(Problem::new(
                        "wallet-exists",
                        "There is already a key on this device.",
                        "Export it and erase it first, if you want another.",
                    ));
                }
                let wallet = Wallet::generate();
                let passphrase = passphrase.filter(|p| !p.is_empty());
                self.wallets()
                    .keep(&wallet, passphrase.as_deref())
                    .await
                    .map_err(|e| e.problem())?;
                self.adopt(wallet).await;
            }
            WalletCommand::Unlock { passphrase } => {
                let wallet =
                    self.wallets().open(Some(&passphrase)).await.map_err(|e| e.problem())?;
                self.adopt(wallet).await;
            }
            WalletCommand::Lock => {
                self.wallet.replace(None);
                if self.wallet_view.borrow().passphrase {
                    self.wallet_view.borrow_mut().state = WalletState::Locked;
                }
                self.send_wallet();
                self.send_status();
            }
            WalletCommand::Export { passphrase } => {
                let wallet = self.open_wallet()?;
                if passphrase.is_empty() {
                    return Err(Problem::new(
                        "passphrase",
                        "A backup needs a passphrase.",
                        "Choose one that you will not lose.",
                    ));
                }
                let file =
                    self.wallets().export(&wallet, &passphrase).await.map_err(|e| e.problem())?;
                let name = format!("nesa-wallet-{}.json", &wallet.address().to_string()[..8]);
                self.port.file(&name, "application/json", file.as_bytes());
                self.wallet_view.borrow_mut().backed_up = true;
                self.send_wallet();
            }
            WalletCommand::Import { file, passphrase } => {
                let wallet =
                    self.wallets().import(&file, &passphrase).await.map_err(|e| e.problem())?;
                self.activity.borrow_mut().clear();
                self.keep_activity().await;
                self.adopt(wallet).await;
            }
            WalletCommand::Faucet => self.faucet().await?,
            WalletCommand::Send { to, denom, amount } => self.transfer(&to, denom, amount).await?,
            WalletCommand::Refresh => self.refresh_wallet().await,
            WalletCommand::Erase => {
                self.wallets().erase().await.map_err(|e| e.problem())?;
                self.wallet.replace(None);
                self.activity.borrow_mut().clear();
                self.keep_activity().await;
                self.wallet_view.replace(nesa_messages::WalletView {
                    state: WalletState::Absent,
                    ..Default::default()
                });
                self.send_wallet();
                self.send_status();
            }
        }
        Ok(())
    }

    /// The open key.
    pub(crate) fn open_wallet(&self) -> Result<Wallet, Problem> {
        self.wallet.borrow().clone().ok_or_else(|| match self.wallet_view.borrow().state {
            WalletState::Locked => {
                Problem::new("locked", "The wallet is locked.", "Unlock it on the Wallet page.")
            }
            _ => Problem::new(
                "no-wallet",
                "There is no key on this device.",
                "Create one on the Wallet page.",
            ),
        })
    }

    /// Opens the key, or makes one without a passphrase where there is none.
    pub(crate) async fn open_or_create_wallet(&self) -> Result<Wallet, Problem> {
        if self.wallet_view.borrow().state == WalletState::Absent {
            let wallet = self.wallets().open_or_create().await.map_err(|e| e.problem())?;
            self.adopt(wallet).await;
        }
        self.open_wallet()
    }

    async fn adopt(&self, wallet: Wallet) {
        let about = self.wallets().about().await.ok().flatten();
        let address = wallet.address().to_string();
        self.wallet.replace(Some(wallet));
        {
            let mut view = self.wallet_view.borrow_mut();
            if view.address.as_ref() != Some(&address) {
                view.balances.clear();
                view.proven_at = None;
                view.nonce = 0;
            }
            view.state = WalletState::Ready;
            view.address = Some(address);
            view.passphrase = about.as_ref().is_some_and(|a| a.passphrase);
            view.backed_up = about.is_some_and(|a| a.backed_up);
        }
        self.send_wallet();
        self.send_status();
        self.refresh_wallet().await;
    }

    /// Proves the balances again.
    pub(crate) async fn refresh_wallet(&self) {
        let address = self.wallet_view.borrow().address.clone();
        let (Some(chain), Some(address)) = (self.chain(), address) else { return };
        let Ok(address) = address.parse::<Address>() else { return };
        let proven = match chain.accounts.account(&address).await {
            Ok(proven) => proven,
            Err(error) => return tracing::debug!(%error, "the balance is not proven yet"),
        };
        // Names of denominations are for people; without them the number is shown.
        let supply = chain.light.record::<Supply>(keys::supply(), "supply", 0).await;
        let supply = supply.ok().and_then(|(supply, _)| supply);
        let symbol = |denom: Denom| {
            let named = supply.as_ref().and_then(|s| s.get(denom));
            named.map_or_else(|| format!("denom {denom}"), |d| d.name.as_str().to_owned())
        };
        let mut balances: Vec<Balance> = proven
            .account
            .balances
            .iter()
            .map(|coin| Balance {
                denom: coin.denom.0,
                symbol: symbol(coin.denom),
                amount: Unes(coin.amount.0),
            })
            .collect();
        if balances.iter().all(|balance| balance.denom != 0) {
            balances.insert(0, Balance { denom: 0, symbol: symbol(Denom::NES), amount: Unes(0) });
        }
        {
            let mut view = self.wallet_view.borrow_mut();
            view.balances = balances;
            view.proven_at = Some(proven.height);
            view.nonce = proven.account.nonce;
        }
        self.send_wallet();
    }

    async fn faucet(&self) -> Result<(), Problem> {
        let wallet = self.open_wallet()?;
        let chain = self.chain().ok_or_else(not_ready)?;
        let before = chain.accounts.account(&wallet.address()).await.map_err(|e| e.problem())?;
        let (id, after) = chain.accounts.fund(wallet.address(), Denom::NES).await.map_err(
            |error| match error {
                nesa_light::AskError::NoPeer { .. } | nesa_light::AskError::Undecided { .. } => {
                    Problem::new(
                        "no-faucet",
                        format!("The faucet gave nothing: {error}."),
                        "Only local and test networks have a faucet; it may also be at its limit.",
                    )
                }
                other => other.problem(),
            },
        )?;
        let change = after
            .account
            .balance(Denom::NES)
            .checked_sub(before.account.balance(Denom::NES))
            .unwrap_or_default();
        self.note(
            id,
            ActivityKind::Faucet,
            "From the faucet".to_owned(),
            format!("{change}"),
            Some(after.height),
        )
        .await;
        self.refresh_wallet().await;
        Ok(())
    }

    async fn transfer(&self, to: &str, denom: u32, amount: Unes) -> Result<(), Problem> {
        let wallet = self.open_wallet()?;
        let chain = self.chain().ok_or_else(not_ready)?;
        let to: Address = to.trim().parse().map_err(|_| {
            Problem::new("bad-address", "This is not an address.", "Paste 64 hex digits.")
                .with(to.chars().take(80).collect::<String>(), "64 hexadecimal digits")
        })?;
        let params = chain.accounts.params().await.map_err(|e| e.problem())?;
        let action =
            Action::Transfer(Transfer { to, denom: Denom(denom), amount: Amount(amount.0) });
        let (signed, included) = chain
            .accounts
            .send_and_wait(wallet.key(), action, params.min_tx_fee)
            .await
            .map_err(|e| e.problem())?;
        let to = to.to_string();
        self.note(
            signed.id(),
            ActivityKind::Sent,
            format!("Sent to {}…", &to[..8]),
            format!("-{}", amount.0),
            Some(included.header.header.height()),
        )
        .await;
        self.refresh_wallet().await;
        Ok(())
    }

    /// Adds one line of activity.
    pub(crate) async fn note(
        &self,
        id: Hash,
        kind: ActivityKind,
        what: String,
        change: String,
        height: Option<u64>,
    ) {
        {
            let mut activity = self.activity.borrow_mut();
            activity.push_front(Activity {
                id: id.to_string(),
                kind,
                what,
                change,
                at_ms: time::now_ms() as f64,
                height,
                refused: None,
            });
            activity.truncate(ACTIVITY_KEPT);
        }
        self.keep_activity().await;
        self.send_wallet();
    }

    async fn keep_activity(&self) {
        let bytes = serde_json::to_vec(&*self.activity.borrow()).unwrap_or_default();
        if let Err(error) = self.store().put_secret(ACTIVITY, "list", &bytes).await {
            tracing::warn!(%error, "activity was not kept");
        }
    }
}
