"""Cloud Tasks: queues of the task functions, with their retries, rates and deduplication."""
