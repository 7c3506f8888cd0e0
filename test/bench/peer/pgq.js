// A consumer of PgQ: takes a batch, sends its events, finishes it.
//
//   node pgq.js redis|rabbitmq|clickhouse PORT QUEUE [MS]
// The consumer is called as the sink, and is registered by whoever starts this.
// The database is where libpq's environment variables say.
//
// Ends when there is no batch, and prints the seconds that it took.  With MS it
// goes on until it is ended, and looks again after MS when it found nothing.
'use strict';
const { deliver } = require('./sinks.js');

const [kind, port, queue, pause] = process.argv.slice(2);

async function pass(pg, sink) {
	const { rows: [{ batch }] } = await pg.query('SELECT pgq.next_batch($1, $2) AS batch', [queue, kind]);
	if (batch === null) return false;
	const { rows } = await pg.query(
		'SELECT ev_id AS id, ev_type AS topic, ev_data AS text FROM pgq.get_batch_events($1)', [batch]);
	if (rows.length > 0) await sink.send(rows);
	await pg.query('SELECT pgq.finish_batch($1)', [batch]);
	return true;
}

deliver(kind, port, pause, pass);
