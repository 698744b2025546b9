-- It was said to be empty where it is the login; the aggregators have always stored the login there.
COMMENT ON COLUMN chatter.display_name IS
    'The display name that was seen last; the login where there is none, or where only the case of letters differs';
