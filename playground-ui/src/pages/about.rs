//! What is promised, by whom, under which assumption, and how to attack it.

use leptos::prelude::*;
use nesa_messages::RootSource;
use nesa_page::licence;

use crate::{
    bridge,
    parts::HashText,
    state::{App, Intent},
};

/// `(promise, how this device knows, under which assumption)`
const PROMISES: [(&str, &str, &str); 7] = [
    (
        "In the masked lane, neither node alone can read your text.",
        "Before each layer your device hides its values behind fresh random numbers; one node gets the hidden values, the other the seed of the numbers. Each half alone is noise.",
        "The two nodes do not pool their halves, now or years later. The random generator is secure. Both links are encrypted to the nodes’ registered keys.",
    ),
    (
        "The answer came out of the named model.",
        "In the masked lane your device keeps a secret test for each weight matrix, made from weights whose hash it checked, and tries every product against it. A large model’s test may be made by two more nodes; the ladder says so, and what that assumes.",
        "A wrong product passes with probability below one in a billion billion for each check. Norms, attention and the rest run on your device.",
    ),
    (
        "In the sealed lane, nobody but the committee reads your text, and its nodes agreed.",
        "Each node gets an envelope of its own. Your device compares what they compute row by row, and looks up on the chain that they published equal traces.",
        "The nodes read it, and may pass it on. If all nodes of one part of the model lie alike, nothing shows it: the odds are beside the choice of lane.",
    ),
    (
        "Models that run in floats: a majority of the nodes ran something near to the named model. That is evidence, no proof.",
        "Your device compares their outputs and fingerprints of values inside their runs, by thresholds measured beforehand, and shows the error rates.",
        "The nodes read the inputs. They do not lie alike, and none adjusts its answer to the thresholds, which are public. The network’s operators measured them.",
    ),
    (
        "Nobody picked the nodes for you.",
        "They follow from a random value that the validators could only make together, after your request was fixed in a block.",
        "Fewer than a third of the validators conspire. Operators are self-declared: two names may be one person.",
    ),
    (
        "Everyone is paid what they earned, the rest comes back.",
        "Your device signs for each verified batch, and proves the settlement from the chain’s state.",
        "At most one batch is ever at stake. A disputed batch is burned, so nobody gains by lying, neither you nor the node.",
    ),
    (
        "This device follows the true chain.",
        "Every header is checked against one group key, from the trust root pinned here.",
        "On a local network one program dealt the key to the validators: its dealer could forge. Past validators are assumed to have erased their shares.",
    ),
];

const ATTACKS: [(&str, &str); 6] = [
    (
        "Run both nodes.",
        "If you are drawn on both sides you read the query. The Network page shows what that costs. The defence is to name one node yourself.",
    ),
    (
        "Lie about a product.",
        "Flip one bit: the check refuses it, your pay for that batch burns, another operator takes your place. Start the network with the liar scenario and watch.",
    ),
    (
        "Serve this page with other code.",
        "A page cannot check itself. Compare the build digest below with a build of your own, or use the command-line client.",
    ),
    (
        "Forge a header, swap a seed.",
        "You need the group key; on a local network its dealer has had it. Start the network with the forger scenario: three of four validators lie to this page, and it names them.",
    ),
    (
        "Watch the traffic.",
        "You learn the model, the padded length, the number of passages and the time. Not more, on either link; on both, still only noise, as long as they are encrypted.",
    ),
    (
        "Complain falsely.",
        "A client that refuses good work burns the disputed amount and gets nothing for it.",
    ),
];

/// The page.
#[component]
pub(crate) fn About() -> impl IntoView {
    view! {
        <div class="frame"><div class="page">
            <header><h1>"What is promised, and what is not"</h1>
                <p class="lede">"Ask strangers’ computers to run a model on your text, without their reading it unless you choose so, and know what shows that they did it right."</p></header>
            <section class="block" aria-labelledby="promises">
                <h2 id="promises">"Promises"</h2>
                <ol class="promises prose">{PROMISES.map(|(promise, how, assumption)| view! {
                    <li><h3>{promise}</h3><p>{how}</p>
                        <p class="muted">"Assumed: " {assumption}</p></li>
                }).collect_view()}</ol>
            </section>
            <section class="block" aria-labelledby="attacks">
                <h2 id="attacks">"How to attack it"</h2>
                <ul class="promises prose">{ATTACKS.map(|(attack, outcome)| view! {
                    <li><h3>{attack}</h3><p>{outcome}</p></li>
                }).collect_view()}</ul>
            </section>
            <section class="block" aria-labelledby="device">
                <h2 id="device">"What stays on this device"</h2>
                <div class="prose"><ul>
                    <li>"Your wallet’s key, encrypted. Your questions, documents and answers, until you delete them."</li>
                    <li>"Vectors of passages that were checked before, so that they need not be sent twice."</li>
                    <li>"The secret tests, sealed. They never leave, and no receipt holds them."</li>
                    <li>"No cookies, no measurements, nothing fetched from anywhere but this address and the network."</li>
                </ul></div>
            </section>
            <Facts/>
        </div></div>
    }
}

#[component]
fn Facts() -> impl IntoView {
    let app = App::get();
    let identity = Memo::new(move |_| app.status.with(|s| s.identity.clone()));
    let origin = window().location().origin().unwrap_or_default();
    let build = bridge::meta("nesa-build");
    view! {
        <section class="block" aria-labelledby="facts">
            <h2 id="facts">"Trust root, versions, licences"</h2>
            <dl class="defs">
                <dt>"This page"</dt><dd>{origin}</dd>
                <dt>"Build"</dt><dd>{match build {
                    Some(b) => view! { <HashText hash=b name="build digest"/> <span class="small muted">" not checked by itself"</span> }.into_any(),
                    None => view! { "unknown" }.into_any(),
                }}</dd>
                {move || identity.get().map(|i| view! {
                    <dt>"Chain"</dt><dd>{i.chain_id}</dd>
                    <dt>"Trust root"</dt><dd><HashText hash=i.trust_root name="trust root"/>
                        <span class="small muted">{match i.source {
                            RootSource::Origin => " told by this address on the first visit, pinned since",
                            RootSource::Pinned => " pinned on an earlier visit",
                            RootSource::User => " given by you",
                        }}</span></dd>
                    <dt>"Group key"</dt><dd>{if i.dealer { "made by one dealer, who could forge" } else { "made by the validators together" }}</dd>
                })}
                {move || app.status.with(|s| s.model.clone()).map(|m| {
                    let licence = licence::of(&m.digest);
                    view! {
                        <dt>"Model"</dt><dd>{m.name} " " <HashText hash=m.digest name="model digest"/>
                            <span class="small muted">{format!(" {licence}")}</span></dd>
                    }
                })}
                {move || { let v = app.status.with(|s| s.versions.clone()); (!v.worker.is_empty()).then(|| view! {
                    <dt>"Worker"</dt><dd>{v.worker}" " <span class="small muted">{v.kernel}</span></dd>
                    <dt>"Protocols"</dt><dd class="mono">{v.protocols.join(", ")}</dd>
                }) }}
                <dt>"Page"</dt><dd>{env!("CARGO_PKG_VERSION")}</dd>
                <dt>"Licence"</dt><dd>"MIT or Apache-2.0; each model has a licence of its own"</dd>
            </dl>
            <div class="row"><button type="button" class="btn tiny"
                on:click=move |_| app.intent.set(Some(Intent::ForgetChain))>"Forget the pinned chain…"</button>
                <button type="button" class="btn tiny"
                on:click=move |_| app.intent.set(Some(Intent::DeleteHistory))>"Delete all history…"</button></div>
        </section>
    }
}
