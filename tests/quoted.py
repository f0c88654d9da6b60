"""What the seeds print of process resource files, quoted (seed 004)."""

OSF = """\
OSF_RANK = 1 !if multiple trigger types are used in
             !combination, this determines what order
             !this trigger will be checked relative to
             !the others
OSF_TRIGGER1.XX = w !when OSF column XX = "w" (waiting)
OSF_TRIGGER1.YY = c !and when OSF column YY = "c" (complete)
OSF_TRIGGER1.DATA_ID = zzz !and the OSF data id = "zzz"...
OSF_PROCESSING.XX = p !set this OSF stage upon being triggered
"""
FILE = """\
FILE_RANK = 1 !if multiple trigger types are used in
              !combination, this determines what order
              !this trigger will be checked relative to
              !the others
FILE_DIRECTORY1 = /mydisk/mydata/ !incoming data found here
FILE_OBJECT1 = *.incoming !trigger on files that match the pattern
FILE_PROCESSING = _proc ! file renamed to include this on end
                        ! when found (prevents retriggering)
FILE_SUCCESS.DIRECTORY = /mydisk/done/ ! If successful, file is moved
                                       ! here (still has _proc on name)
FILE_ERROR.DIRECTORY = /mydisk/bad/ ! If unsuccessful, file is moved
                                    ! here (still has _proc on name)
"""
STATUSES = """\
XPOLL_STATE.01 = OSF_SUCCESS1
XPOLL_STATE.03 = OSF_ERROR1
XPOLL_STATE.05 = OSF_SUCCESS2
XPOLL_ERROR.GC = x !any exit status != 1,3,5 sets OSF stage
                   !GC to x
OSF_SUCCESS1.GC = c !if exit status=1 set OSF stage GC to c...
OSF_SUCCESS1.CA = n !...and set OSF stage CA to n (not necessary)
OSF_SUCCESS2.GC = c !if exit status=5 set OSF stage CA to c...
OSF_SUCCESS2.CA = w !...and set OSF stage CA to w (waiting)
OSF_ERROR1.GC = e !if exit status=3 set OSF stage GC to e
"""
