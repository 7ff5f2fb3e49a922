// Runs the float lane's wasm module for `nesa float calibrate`.
// Arguments: the folder of the module. Frames on stdin and stdout: length (u32, little end first), kind, bytes.
//   M onnx → P plan (32 bytes) and 1 with vectors, 0 without   R inputs → A answer   any → E message
import { readFileSync, readSync, writeSync } from "node:fs";
import { pathToFileURL } from "node:url";

const folder = process.argv.at(-1);
const glue = await import(pathToFileURL(`${folder}/nesa_float.js`));
glue.initSync({ module: readFileSync(`${folder}/nesa_float_bg.wasm`) });
let model;

function read(length) {
  const bytes = new Uint8Array(length);
  for (let got = 0; got < length; ) {
    let more;
    try {
      more = readSync(0, bytes, got, length - got, null);
    } catch (error) {
      if (error.code === "EAGAIN") continue;
      if (error.code === "EOF") process.exit(0);
      throw error;
    }
    if (more === 0) process.exit(0);
    got += more;
  }
  return bytes;
}

function write(kind, bytes) {
  const frame = new Uint8Array(5 + bytes.length);
  new DataView(frame.buffer).setUint32(0, bytes.length + 1, true);
  frame[4] = kind.charCodeAt(0);
  frame.set(bytes, 5);
  for (let sent = 0; sent < frame.length; ) {
    try {
      sent += writeSync(1, frame, sent);
    } catch (error) {
      if (error.code !== "EAGAIN") throw error;
    }
  }
}

for (;;) {
  const length = new DataView(read(4).buffer).getUint32(0, true);
  const frame = read(length);
  const [kind, bytes] = [String.fromCharCode(frame[0]), frame.subarray(1)];
  try {
    if (kind === "M") {
      model = glue.FloatModel.open(bytes);
      write("P", Uint8Array.of(...model.plan(), glue.simd() ? 1 : 0));
    } else {
      write("A", model.run(bytes));
    }
  } catch (error) {
    write("E", new TextEncoder().encode(String(error.message ?? error)));
  }
}
