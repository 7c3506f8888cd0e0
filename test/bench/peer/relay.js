// A relay as people write it: polls an outbox with SKIP LOCKED, sends batches of
// 1,000, deletes what was acknowledged, one batch after the other.
//
//   node relay.js redis|rabbitmq|clickhouse PORT OUTBOX [MS]
// The database is where libpq's environment variables say.
//
// Ends when the outbox is empty, and prints the seconds that it took.  With MS it
// goes on until it is ended, and looks again after MS when it found nothing.
'use strict';
const { deliver } = require('./sinks.js');

const [kind, port, outbox, pause] = process.argv.slice(2);
const BATCH = 1000;

async function pass(pg, sink) {
	await pg.query('BEGIN');
	const { rows } = await pg.query(
		`SELECT id, topic, payload FROM ${outbox} ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED`, [BATCH]);
	if (rows.length > 0) {
		await sink.send(rows);
		await pg.query(`DELETE FROM ${outbox} WHERE id = ANY($1)`, [rows.map((row) => row.id)]);
	}
	await pg.query('COMMIT');
	return rows.length > 0;
}

deliver(kind, port, pause, pass);
