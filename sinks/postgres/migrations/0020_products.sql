-- What sellers offer. A deleted product keeps its row: its versions go on when its id is used again.
CREATE TABLE products (
    seller_id  text NOT NULL REFERENCES sellers,
    product_id text NOT NULL,
    -- 1, 2, 3 … for each change, and so for each event.
    version    bigint NOT NULL,
    is_deleted boolean NOT NULL,
    -- The ProductChanged of this version, encoded.
    event      bytea NOT NULL,
    PRIMARY KEY (seller_id, product_id)
);

-- Which product sells a SKU: no two do.
CREATE TABLE product_skus (
    seller_id  text NOT NULL,
    sku        text NOT NULL,
    product_id text NOT NULL,
    PRIMARY KEY (seller_id, sku)
);
CREATE INDEX product_skus_by_product ON product_skus (seller_id, product_id);

-- The products of a category, and of those that it is part of.
CREATE TABLE product_categories (
    seller_id  text NOT NULL,
    category   text NOT NULL,
    product_id text NOT NULL,
    PRIMARY KEY (seller_id, category, product_id)
);
