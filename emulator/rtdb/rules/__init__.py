"""The security-rules language of the Realtime Database. Pure.

Source: "Firebase Security Rules API" (Realtime Database) and the observed behaviour of the production service.
`ruleset.load` reads a rules file or raises RulesError; a loaded set of rules answers with decisions and never raises.
"""
