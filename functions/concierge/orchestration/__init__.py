"""Orchestration on the Realtime Database. So far: events that are published once.

topics  what an event of each topic says
events  publishing, together with the change that an event tells of
"""
