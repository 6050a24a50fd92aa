"""What people may do with their own accounts: each change asks the step-up rule and is audited. No pages stand here."""
