"""Everything that the credit system holds about one person, as one JSON document; and its verification offline."""
