-- The draw is part of the launch's own row: who holds that row's lock decides, with nothing else to lock.
ALTER TABLE launches
  ADD COLUMN drawn_at      DATETIME(3)  NULL,
  ADD COLUMN drawn_entries INT UNSIGNED NULL;

CREATE TABLE winners (
  launch_id INT UNSIGNED NOT NULL,
  place     INT UNSIGNED NOT NULL,
  ticket    CHAR(14) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  PRIMARY KEY (launch_id, place),
  UNIQUE KEY winner_ticket (ticket),
  CONSTRAINT winner_launch FOREIGN KEY (launch_id) REFERENCES launches (id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;
