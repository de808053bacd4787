"""The data doctor: what is wrong with a data set, or strange about it, found before hours are spent on it.

`layouts` recognises what a folder is, `listing` lists a data set's images without refusing bad ones, `survey` opens
every one, `checks` looks at what came out, `examination` joins them; `findings` is what a user sees.
"""
