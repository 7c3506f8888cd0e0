// A relay as people write it: polls an outbox with SKIP LOCKED, sends batches of
// 1,000, deletes what was acknowledged, one batch after the other.
//
//   node relay.js redis|rabbitmq|clickhouse PORT
// The database is where libpq's environment variables say.
//
// Ends when the outbox is empty, and prints the seconds that it took.
'use strict';
const { Client } = require('pg');

const [kind, port] = process.argv.slice(2);
const BATCH = 1000;

const sinks = {
	async redis() {
		const Redis = require('ioredis');
		const redis = new Redis({ host: '127.0.0.1', port: +port });
		return {
			async send(rows) {
				const pipeline = redis.pipeline();
				for (const row of rows)
					pipeline.xadd('bench', '*', 'id', row.id, 'data', JSON.stringify(row.payload));
				for (const [error] of await pipeline.exec())
					if (error) throw error;
			},
			close: () => redis.quit()
		};
	},
	async rabbitmq() {
		const amqp = require('amqplib');
		const connection = await amqp.connect({ hostname: '127.0.0.1', port: +port, username: 'guest', password: 'guest' });
		const channel = await connection.createConfirmChannel();
		return {
			async send(rows) {
				for (const row of rows)
					channel.publish('persistomata', row.topic, Buffer.from(JSON.stringify(row.payload)),
						{ persistent: true, mandatory: true, messageId: String(row.id), contentType: 'application/json' });
				await channel.waitForConfirms();
			},
			close: () => connection.close()
		};
	},
	async clickhouse() {
		const { createClient } = require('@clickhouse/client');
		const client = createClient({ url: `http://127.0.0.1:${port}`, clickhouse_settings: { input_format_skip_unknown_fields: 1 } });
		return {
			async send(rows) {
				await client.insert({
					table: 'peer',
					format: 'JSONEachRow',
					values: rows.map(({ payload: event }) => Object.fromEntries(Object.entries(event).map(([name, value]) =>
						[name, value === null ? '' : typeof value === 'object' ? JSON.stringify(value) : value])))
				});
			},
			close: () => client.close()
		};
	}
};

async function main() {
	const pg = new Client();
	await pg.connect();
	const sink = await sinks[kind]();
	const start = process.hrtime.bigint();
	for (;;) {
		await pg.query('BEGIN');
		const { rows } = await pg.query(
			'SELECT id, topic, payload FROM outbox ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED', [BATCH]);
		if (rows.length > 0) {
			await sink.send(rows);
			await pg.query('DELETE FROM outbox WHERE id = ANY($1)', [rows.map((row) => row.id)]);
		}
		await pg.query('COMMIT');
		if (rows.length === 0) break;
	}
	console.log((Number(process.hrtime.bigint() - start) / 1e9).toFixed(4));
	await sink.close();
	await pg.end();
}

main().catch((error) => {
	console.error(error);
	process.exit(1);
});
