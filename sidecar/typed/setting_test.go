package typed

import "testing"

func TestWhatBecomesOfMailIsLimitedForDomainsAndAccounts(t *testing.T) {
	for scope, good := range map[string]bool{
		"default": true, "a.example": true, "account:bob": true,
		"news@a.example": false, "login:bob": false, "script:/home/bob": false,
	} {
		if err := CheckScope(scope, "deferfail_percent"); (err == nil) != good {
			t.Errorf("%s: %v", scope, err)
		}
	}
}

func TestOnlyWhatIsExpectedIsForScriptsAndLogins(t *testing.T) {
	for key, good := range map[string]bool{"expected": true, "hourly": false, "mode": false} {
		for _, scope := range []string{"login:bob", "script:/home/bob"} {
			if err := CheckScope(scope, key); (err == nil) != good {
				t.Errorf("%s of %s: %v", key, scope, err)
			}
		}
		if err := CheckScope("news@a.example", key); err != nil {
			t.Errorf("%s of a mailbox: %v", key, err)
		}
	}
}
