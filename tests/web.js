/* web.js - the page of examples/web, driven: what it shows must be what tests/web.c computes natively.
 *
 *   node tests/web.js module FILE.wasm          the module's imports, then the lines of selftest()
 *   node tests/web.js page CHROMIUM FILE.html EXPECTED LABEL [PICTURES]
 *                                               opens the page from disk, prints "ok" and "FAIL" lines; EXPECTED:
 *                                               the lines of tests/web.c; PICTURES: a folder for screenshots
 *
 * A module may also be the page's module.js.
 *
 * The browser is spoken to through pipes (--remote-debugging-pipe), which needs nothing but node. */
"use strict";
const fs = require("fs"), os = require("os"), path = require("path");

async function runModule(file) {
    const page = fs.readFileSync(path.join(__dirname, "../examples/web/index.html"), "utf8");
    const code = page.match(/<script id="engine">([^]*?)<\/script>/)[1];
    const {Engine, selftest} = new Function(code + "return {Engine, selftest};")();
    const bytes = fs.readFileSync(file), text = file.endsWith(".js") && bytes.toString().match(/"(.*)"/)[1];
    const module = new WebAssembly.Module(text ? Buffer.from(text, "base64") : bytes);
    console.log("imports " + WebAssembly.Module.imports(module).length);
    process.stdout.write(selftest(new Engine(await WebAssembly.instantiate(module, {}))));
}

/* A browser; send(method, parameters) answers with the result. */
function launch(program, profile) {
    const flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
        "--mute-audio", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
        "--autoplay-policy=no-user-gesture-required", "--remote-debugging-pipe", "--user-data-dir=" + profile,
        "about:blank"];
    const stdio = ["ignore", "ignore", "ignore", "pipe", "pipe"];
    const child = require("child_process").spawn(program, flags, {stdio});
    const waiting = new Map();
    let number = 0, text = "", session;
    child.stdio[4].on("data", (data) => {
        const parts = (text + data).split("\0");
        text = parts.pop();
        for (const message of parts.map((part) => JSON.parse(part))) {
            const promise = waiting.get(message.id);
            waiting.delete(message.id);
            if (promise) message.error ? promise[1](new Error(message.error.message)) : promise[0](message.result);
        }
    });
    child.stdio[3].on("error", () => {});
    child.on("exit", () => { for (const [, fail] of waiting.values()) fail(new Error("the browser ended")); });
    const send = (method, params = {}) => new Promise((done, fail) => {
        waiting.set(++number, [done, fail]);
        child.stdio[3].write(JSON.stringify({id: number, method, params, sessionId: session}) + "\0");
    });
    const attach = async () => {
        const {targetInfos} = await send("Target.getTargets");
        const {targetId} = targetInfos.find((target) => target.type === "page");
        session = (await send("Target.attachToTarget", {targetId, flatten: true})).sessionId;
    };
    const evaluate = async (expression) => {
        const options = {expression, awaitPromise: true, returnByValue: true};
        const {result, exceptionDetails: wrong} = await send("Runtime.evaluate", options);
        if (wrong) throw new Error(wrong.exception?.description || wrong.text);
        return result.value;
    };
    return {child, send, attach, evaluate};
}

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

async function runPage(program, file, expectedFile, label, pictures) {
    const expected = fs.readFileSync(expectedFile, "utf8"), url = "file://" + path.resolve(file);
    const profile = fs.mkdtempSync(path.join(os.tmpdir(), "ssm-web-"));
    const browser = launch(program, profile);
    const report = (name, good, why) =>
        console.log(good ? `ok   web/${label}-${name}` : `FAIL web/${label}-${name} (${why})`);
    const until = async (expression) => { /* at most 30 s */
        for (let i = 0; i < 300; ++i) {
            if (await browser.evaluate(expression).catch(() => false)) return true;
            await sleep(100);
        }
        return false;
    };
    const show = async (width, height, dark, address) => {
        const features = [{name: "prefers-color-scheme", value: dark ? "dark" : "light"}];
        const size = {width, height, deviceScaleFactor: 1, mobile: false};
        await browser.send("Emulation.setDeviceMetricsOverride", size);
        await browser.send("Emulation.setEmulatedMedia", {features});
        await browser.send("Page.navigate", {url: "about:blank"}); /* so that another hash is another page */
        await browser.send("Page.navigate", {url: address});
    };
    const photograph = async (name) => {
        if (!pictures) return;
        const {data} = await browser.send("Page.captureScreenshot", {captureBeyondViewport: true});
        fs.writeFileSync(path.join(pictures, name + ".png"), Buffer.from(data, "base64"));
    };
    const message = () => browser.evaluate("$('message').textContent");
    const samples = () => browser.evaluate("total");
    try {
        await browser.attach();

        /* The same numbers as natively, in the page and in the AudioWorklet; every canvas drawn on. */
        await show(1200, 1900, true, url + "#selftest");
        await until("document.title === 'selftest done' || $('message').textContent !== ''");
        const lines = (await browser.evaluate("$('selftest')?.textContent || ''")).split("\n");
        const own = lines.filter((line) => /^\d /.test(line)).map((line) => line + "\n").join("");
        report("bits", own === expected, own ? "other numbers than natively" : await message());
        const sound = expected.match(/^0 output (\w+)$/m)[1];
        const worklet = lines.find((line) => line.startsWith("worklet output "));
        report("worklet_bits", worklet === "worklet output " + sound, worklet || await message());
        const ink = lines.filter((line) => line.startsWith("ink")).map((line) => line.split(" "));
        const blank = ink.filter(([, , count]) => count < 200).map(([, id]) => id);
        report("draws", ink.length === 6 && !blank.length, "blank: " + (blank.join(" ") || "all"));
        await photograph("selftest");

        /* Live, without sound: samples come at their rate, the knobs work, Pause stops. */
        await show(1200, 1900, true, url);
        const runs = await until("total > 48000");
        report("runs", runs, "no samples");
        if (pictures) await sleep(7500);
        await photograph("dark");
        const before = await samples();
        await browser.evaluate("$('kind').value = 1; $('states').value = 64;" +
            "$('states').dispatchEvent(new Event('input'))");
        report("knobs", await until(`total > ${before + 9600} && engine.modes === 32`), "no new layer");
        await browser.evaluate("$('pause').click()");
        const paused = await samples();
        await sleep(300);
        report("pauses", await samples() === paused, "samples while paused");
        await browser.evaluate("$('pause').click()");

        /* With sound, and with the browser's own false microphone: the AudioWorklet takes over. */
        await browser.evaluate("$('speaker').click()");
        const sounding = await until("audio && truth.length > 20");
        report("worklet_runs", sounding, await message() || "no samples");
        await browser.evaluate("$('speaker').click()");
        await until("!audio");
        await browser.evaluate("$('microphone').click()");
        const heard = await until("audio && truth.length > 150 && Math.max(...truth) > 0.001");
        report("microphone", heard, await message() || "silence");
        if (pictures) {
            await sleep(5000);
            await photograph("microphone");
            for (const [kind, name] of ["resonators", "lin", "inv", "legs"].entries()) {
                await show(1200, 1900, kind % 2 === 1, url);
                await until("total > 0");
                await browser.evaluate(`$('kind').value = ${kind};` +
                    "$('kind').dispatchEvent(new Event('input'))");
                await until("total > 540000");
                await photograph(name);
            }
            await show(390, 2600, false, url);
            await until("total > 400000");
            await photograph("narrow");
        }
    } catch (error) {
        report("browser", false, error.message);
    }
    browser.send("Browser.close").catch(() => {});
    await Promise.race([new Promise((done) => browser.child.on("exit", done)), sleep(5000)]);
    browser.child.kill("SIGKILL");
    fs.rmSync(profile, {recursive: true, force: true, maxRetries: 5});
    process.exit(0);
}

const [what, ...files] = process.argv.slice(2);
if (what === "module") runModule(...files);
else runPage(...files);
