"""Policies: a rule for each slot of a scheduler, and the rules that mbexp has.

A rule of a slot is one function in the module of that slot; its name is then a value of the slot's key.
"""
