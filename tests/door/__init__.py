"""The public door under attack: thousands of requests and logins, each by a process of its own, on a real mail server.

    python -m tests.door hostile [NUMBER] [SEED]    hostile requests (default: 10,000)
    python -m tests.door flood [NUMBER]             requests for one client from 50 networks (default: 1,000)
    python -m tests.door spray [NUMBER] [ACCOUNTS]  wrong logins from one network (default: 10,000 over 5,000 accounts)

`--postgresql` uses that database instead of SQLite. `test_door.py` does the same with few.
"""
