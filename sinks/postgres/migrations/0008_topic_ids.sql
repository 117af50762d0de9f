-- The id that Kafka gave the topic when it was made: an offset means something only in the topic it was counted in.
-- NULL until a worker of the agent has started once since this column is there.
ALTER TABLE positions ADD COLUMN topic_id text;
