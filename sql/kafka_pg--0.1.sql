/* kafka_pg 0.1 */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION kafka_pg" to load this file. \quit

-- The broker's functions, views and state; topics are tables in the other schema.
CREATE SCHEMA kafka;
CREATE SCHEMA topics;
