"""Small tools without knowledge of the product: amounts, retries, canonical JSON, logs, fault points."""
