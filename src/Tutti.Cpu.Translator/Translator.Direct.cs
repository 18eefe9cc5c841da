namespace Tutti.Cpu.Translator;

/// <summary>What user code is found running, and what runs untranslated: docs/direct-execution.md.</summary>
internal sealed unsafe partial class Translator
{
    private readonly DirectExecution? _direct;

    /// <summary>See <see cref="KeepsJumps"/>; of the user code that was met last.</summary>
    private bool _keepsJumps;

    /// <summary>When the running code was looked at last, in milliseconds.</summary>
    private long _lastNote;

    /// <summary>Null where it is not switched on.</summary>
    internal DirectExecution? Direct => _direct;

    /// <summary>Whether no jump is to lead to other code by itself, so that who runs next asks whether that runs directly.</summary>
    private bool KeepsJumps => _keepsJumps && _state->Cpl == 3;

    /// <summary>Takes note that user mode was found running; false where its code is translated.</summary>
    private bool NoteDirect()
    {
        if (_direct!.Note())
        {
            // What user mode has translated leads on by itself.
            ForgetUserJumps(ofAll: false);
            return true;
        }

        return _direct.IsActive;
    }

    /// <summary>
    /// Whatever asked for attention, the guest's timer most of all, came while this code ran: what is met so is translated anew, as hot
    /// code. Seldom enough to cost nothing.
    /// </summary>
    private void NoteRunning()
    {
        long now = Environment.TickCount64;
        if (now == _lastNote)
        {
            return;
        }

        _lastNote = now;
        if (_direct != null && NoteDirect())
        {
            return;
        }

        if (_windows.Note(_spaces.Current))
        {
            // What user mode has runs by the tables.
            ForgetUserJumps(ofAll: false);
        }

        ulong cr2 = _state->Cr2;
        if (!_processor.Fetch.TryFindCode(out ulong physical, out _))
        {
            // Nobody has asked for this instruction yet: what came is first.
            _state->FaultVector = -1;
            _state->Cr2 = cr2;
        }
        else if (_cache.Hot.Note(physical))
        {
            DropPiece(physical, isWhole: true);
        }
    }
}
