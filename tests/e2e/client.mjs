// What Node's two clients see of a gateway, as JSON on the standard output; run by test_clients.py.
import http from 'node:http';
import {randomBytes} from 'node:crypto';
import {Readable} from 'node:stream';

const url = process.env.GATEWAY_URL;
const headers = {'X-API-KEY': process.env.SECRET};
const body = randomBytes(1 << 20);

const fetched = async (path, options = {}) => fetch(url + path, {headers, ...options});
const bytes = async (answer) => Buffer.from(await answer.arrayBuffer());

async function withFetch() {
    const report = {gets: 0};
    for (let number = 0; number < 20; number++) {
        const seen = await (await fetched(`/${number}`)).json();
        report.gets += seen.target === `/${number}`;
    }
    const refused = await fetched('/x', {headers: {}});
    report.refused = [refused.status, (await refused.json()).code];
    report.challenged = refused.headers.get('www-authenticate').startsWith('Bearer');
    report.same = (await bytes(await fetched('/same', {method: 'POST', body}))).equals(body);
    const stream = Readable.toWeb(Readable.from([body.subarray(0, 9), body.subarray(9)]));
    report.streamed = (await bytes(await fetched('/same', {method: 'POST', body: stream, duplex: 'half'}))).equals(body);
    report.redirected = (await (await fetched('/redirected', {method: 'POST', body: 'again'})).text()) === 'again';
    return report;
}

const agent = new http.Agent({keepAlive: true, maxSockets: 1});
const sockets = new Set();

function asked(path, options = {}, data = undefined, onContinue = undefined) {
    return new Promise((resolve, reject) => {
        const request = http.request(url + path, {agent, headers, ...options}, (answer) => {
            const parts = [];
            answer.on('data', (part) => parts.push(part));
            answer.on('end', () => resolve({status: answer.statusCode, body: Buffer.concat(parts)}));
        });
        request.on('socket', (socket) => sockets.add(socket));
        request.on('error', reject);
        if (onContinue === undefined) {
            request.end(data);
        } else {
            request.on('continue', () => { onContinue(); request.end(data); });
            request.flushHeaders();
        }
    });
}

async function withHttp() {
    const report = {gets: 0};
    for (let number = 0; number < 20; number++) {
        report.gets += JSON.parse((await asked(`/${number}`)).body).target === `/${number}`;
    }
    report.sockets = sockets.size;
    report.refused = (await asked('/x', {headers: {}})).status;
    report.same = (await asked('/same', {method: 'POST'}, body)).body.equals(body);
    const expecting = {method: 'POST', headers: {...headers, Expect: '100-continue', 'Content-Length': 5}};
    const expected = await asked('/same', expecting, 'hello', () => { report.expected = 'continue'; });
    report.expected = expected.body.equals(Buffer.from('hello')) ? report.expected : 'broken';
    return report;
}

const report = {fetch: await withFetch(), http: await withHttp()};
agent.destroy();
process.stdout.write(JSON.stringify(report));
