// The sinks of the peers, through the clients that people use.  A row is an event:
// id, topic, and either text (its JSON) or payload (what the JSON says).
'use strict';
const { Client } = require('pg');

const text = (row) => row.text ?? JSON.stringify(row.payload);
const event = (row) => row.payload ?? JSON.parse(row.text);

const kinds = {
	async redis(port) {
		const Redis = require('ioredis');
		const redis = new Redis({ host: '127.0.0.1', port });
		return {
			async send(rows) {
				const pipeline = redis.pipeline();
				for (const row of rows)
					pipeline.xadd('bench', '*', 'id', row.id, 'data', text(row));
				for (const [error] of await pipeline.exec())
					if (error) throw error;
			},
			close: () => redis.quit()
		};
	},
	async rabbitmq(port) {
		const amqp = require('amqplib');
		const connection = await amqp.connect({ hostname: '127.0.0.1', port, username: 'guest', password: 'guest' });
		const channel = await connection.createConfirmChannel();
		return {
			async send(rows) {
				for (const row of rows)
					channel.publish('persistomata', row.topic, Buffer.from(text(row)),
						{ persistent: true, mandatory: true, messageId: String(row.id), contentType: 'application/json' });
				await channel.waitForConfirms();
			},
			close: () => connection.close()
		};
	},
	async clickhouse(port) {
		const { createClient } = require('@clickhouse/client');
		const client = createClient({ url: `http://127.0.0.1:${port}`, clickhouse_settings: { input_format_skip_unknown_fields: 1 } });
		return {
			async send(rows) {
				await client.insert({
					table: 'peer',
					format: 'JSONEachRow',
					values: rows.map((row) => Object.fromEntries(Object.entries(event(row)).map(([name, value]) =>
						[name, value === null ? '' : typeof value === 'object' ? JSON.stringify(value) : value])))
				});
			},
			close: () => client.close()
		};
	}
};

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

// Calls pass(pg, sink) until it says that there was nothing, and prints the
// seconds that all took; with a pause it goes on after so many ms.
async function deliver(kind, port, pause, pass) {
	const pg = new Client();
	await pg.connect();
	const sink = await kinds[kind](+port);
	const start = process.hrtime.bigint();
	for (;;) {
		if (await pass(pg, sink)) continue;
		if (!pause) break;
		await sleep(+pause);
	}
	console.log((Number(process.hrtime.bigint() - start) / 1e9).toFixed(4));
	await sink.close();
	await pg.end();
}

// The same; any error ends the program.
exports.deliver = (...how) => deliver(...how).catch((error) => {
	console.error(error);
	process.exit(1);
});
