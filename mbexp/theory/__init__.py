"""Exact values from queueing theory and from the two papers, one module a model, for any parameters.

``queueing`` classical queues; ``bulk_service`` greedy and full batches on one queue; ``multi_bin`` P1;
``prediction_error`` P1's confusion matrices; ``dynamic_batching`` P2; ``roofline`` latency from a model's shape;
``sample_path`` recursions where no exact mean is known; ``lengths``, ``service_time`` and ``markov`` serve the others.
"""
