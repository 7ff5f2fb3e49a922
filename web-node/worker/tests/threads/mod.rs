//! Threads of a pool, against scripts that do everything but compute: the product is right all the same.

use std::sync::Arc;

use js_sys::Function;
use nesa_kernels::reference::matmul_mask_u32;
use nesa_model::{
    ExactModel, StageId,
    toy::{self, ToyConfig},
};
use nesa_node::{Team, Threads, Workers as _};
use nesa_worker::threads::PoolWorkers;
use wasm_bindgen_test::wasm_bindgen_test;

/// A thread by the definition, which fails if a share is still in memory when the next one comes.
const HONEST: &str = "
const held = new Map();
let last;
const calls = {
  ready: () => {},
  load: (weight, w, k) => held.set(weight, [w, k]),
  product: (weight, rows, share, product) => {
    if (last?.subarray(share.length).some((word) => word !== 0)) throw new Error('a share was left');
    last = share;
    const [w, k] = held.get(weight), n = w.length / k;
    for (let t = 0; t < rows; t++) for (let j = 0; j < n; j++) {
      let sum = 0;
      for (let i = 0; i < k; i++) sum = (sum + Math.imul(w[j * k + i], share[t * k + i])) | 0;
      product[t * n + j] = sum;
    }
  },
};
onmessage = ({ data: [id, call, ...rest] }) => { calls[call](...rest); postMessage([id, 'ok']); };
";

/// Makes threads that run `script`.
fn make(script: &str) -> Function {
    let source = serde_json::to_string(script).unwrap();
    Function::new_no_args(&format!(
        "const script = new Blob([{source}], {{ type: 'text/javascript' }});
         return new Worker(URL.createObjectURL(script), {{ type: 'module' }});"
    ))
}

/// Threads that do `what` when a product is asked for.
fn hostile(what: &str) -> Function {
    make(&format!(
        "{HONEST}
         const honest = onmessage;
         onmessage = (event) => {{
           const [id, call, weight, rows, share, product] = event.data;
           if (call === 'product') {{ {what} }} else honest(event);
         }};"
    ))
}

fn words(len: usize, seed: u64) -> Vec<u32> {
    let mut state = seed;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 32) as u32
    };
    (0..len).map(next).collect()
}

#[wasm_bindgen_test]
async fn slices_cross_shared_memory_and_shares_are_erased() {
    let workers = PoolWorkers::start(&make(HONEST), 2).await.unwrap();
    for (weight, (n, k, rows)) in
        [(7, 5, 9), (3, 8, 4), (16, 1, 2), (1, 3, 1), (5, 5, 0)].into_iter().enumerate()
    {
        let weight = weight as u32;
        let w: Vec<i8> = words(n * k, 1).into_iter().map(|word| word as i8).collect();
        let share = words(rows * k, 2);
        let mut right = vec![0; rows * n];
        matmul_mask_u32(&w, &share, n, k, rows, &mut right);
        for worker in [0, 1] {
            workers.load(worker, weight, &w, k).await.unwrap();
        }
        for answer in workers.products(&[0, 1], weight, &share, rows) {
            assert_eq!(answer.await, Ok(right.clone()), "{n} × {k}, {rows} rows");
        }
    }
    for answer in workers.products(&[0, 2], 99, &[1], 1) {
        assert!(answer.await.is_err(), "neither that weight nor that worker is there");
    }
    workers.end(0);
    for answer in workers.products(&[0], 0, &words(45, 3), 9) {
        assert!(answer.await.is_err(), "it was ended");
    }
}

/// Silent, broken, lying or out of the way: the node's product is the one of the definition.
#[wasm_bindgen_test]
async fn a_hostile_thread_changes_no_product() {
    let config = ToyConfig {
        d_model: 256,
        d_ff: 512,
        heads: 4,
        layers: 1,
        max_tokens: 64,
        input_bits: 12,
        seed: 3,
    };
    let artifact = toy::artifact(&config).unwrap();
    let model = ExactModel::open(&artifact).unwrap();
    let widest = model.served_stages().iter().max_by_key(|stage| stage.n * stage.k).unwrap();
    let (n, k, rows) = (widest.n, widest.k, 128);
    let share = words(rows * k, 9);
    let mut right = vec![0; rows * n];
    let w = model.weights(StageId(widest.id.0)).bytes(k);
    matmul_mask_u32(&w, &share, n, k, rows, &mut right);
    for what in [
        "honest(event);",
        "close();",
        "throw new Error('boom');",
        "postMessage([id, 'ok']);",
        "postMessage([id, 'stopped', 'unreachable']);",
        "postMessage('nonsense'); postMessage([]); postMessage([id, 'other', {}]);",
        "product.fill(0xffffffff); postMessage([id, 'ok']);",
        "honest(event); share.fill(7); product.fill(7);",
    ] {
        let threads = Threads::of([(artifact.digest(), model.clone())]).unwrap();
        #[allow(clippy::arc_with_non_send_sync)] // one thread here
        let workers = Arc::new(PoolWorkers::start(&hostile(what), 1).await.unwrap());
        threads.employ(Team { workers, memory: u64::MAX }).await;
        let key = (artifact.digest(), widest.id.0);
        let product = threads.product(key, &model, &share, rows).await;
        assert_eq!(product.as_ref(), Some(&right), "{what}");
        let again = threads.product(key, &model, &share, rows).await;
        assert!(again.is_none_or(|again| again == right), "{what}");
    }
}

#[wasm_bindgen_test]
async fn a_thread_that_cannot_start_says_so() {
    let broken = PoolWorkers::start(&make("throw new Error('no such module');"), 1).await;
    assert!(broken.is_err_and(|reason| reason.contains("no such module")));
    let nothing = PoolWorkers::start(&Function::new_no_args("return 5;"), 1).await;
    assert!(nothing.is_err());
}
