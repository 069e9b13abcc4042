// wasm.mjs - runs a WebAssembly module under node: node wasm.mjs MODULE.wasm [ARGUMENT...]
//
// A module that imports nothing is tests/bits.c without a C library: calls its bits_all and prints the
// hashes as the program itself would. Any other is a wasi program, which sees the current directory.
import { readFileSync } from 'node:fs';

const module = await WebAssembly.compile(readFileSync(process.argv[2]));
if (WebAssembly.Module.imports(module).length === 0) {
    const { exports } = await WebAssembly.instantiate(module, {});
    const hashes = [0, 1].map((family) => exports.bits_all(family) >>> 0);
    console.log('bits ' + hashes.map((hash) => hash.toString(16).padStart(8, '0')).join(' '));
    process.exitCode = hashes.includes(1) ? 1 : 0;
} else {
    const { WASI } = await import('node:wasi');
    const wasi = new WASI({
        version: 'preview1', args: process.argv.slice(2), env: {}, preopens: { '.': '.' }, returnOnExit: true,
    });
    // At once: node 20 may crash on its way out while it still compiles a large module.
    process.reallyExit(wasi.start(await WebAssembly.instantiate(module, wasi.getImportObject())));
}
