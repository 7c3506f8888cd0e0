\echo Use "CREATE EXTENSION persistomata" to load this file. \quit

